"""The cut of a set keeps what it says, holds back the rest of the tail, and leaves the test images alone."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmarks.worth.sets import ImageSet, write_tables


def test_the_tail_is_cut_and_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"common": 30, "rare": 12, "middle": 20}
    made = [
        (split, name, f"{split} {name} {n}".encode())
        for split in ("train", "test")
        for name in counts
        for n in range(counts[name])
    ]
    columns = dict(zip(("split", "label", "image"), map(list, zip(*made, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "photographs.parquet")
    monkeypatch.setenv("TAILFORGE_DATA", str(tmp_path))
    chosen = ImageSet("cut", "photographs", {"rare": 4, "middle": 10}, ("rare",), few=4, network={}, validation=5)

    real, held = (pq.read_table(path).to_pylist() for path in write_tables(chosen, tmp_path / "work"))
    found = Counter((each["split"], each["label"]) for each in real)
    assert found == {
        **{("test", name): count for name, count in counts.items()},
        **{("validation", name): 5 for name in counts},
        ("train", "common"): 25,
        ("train", "middle"): 10,
        ("train", "rare"): 4,
    }
    # Only rare images are held back, and none that is used.
    assert Counter(each["label"] for each in held) == {"rare": 12 - 5 - 4}
    assert not {each["image"] for each in held} & {each["image"] for each in real}
