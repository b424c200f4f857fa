"""`where`: what the manifest says is what is read, and little more than that."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.catalog.reading.byte_ranges import MAX_WASTE, WINDOW, plan_requests
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.errors import NotFoundError, ReadingError
from tests.support.counted_files import CountedFileSystem
from tests.support.fabricate import make_build, make_recipe, publish_build


def list_rows(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    return [row for row in pq.read_table(folder / "manifest.parquet").to_pylist() if row["split"] == split]


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        (pc.field("concept") == "hook", lambda row: row["concept"] == "hook"),
        (
            (pc.field("phash") < 2**62) & (pc.field("class_id") != 1),
            lambda r: r["phash"] < 2**62 and r["class_id"] != 1,
        ),
        (pc.field("sharpness") > 1000, lambda row: False),
        (pc.field("clip_score").is_valid(), lambda row: True),
        (pc.field("crop_score") > 0, lambda row: False),  # null
        (pc.scalar(True), lambda row: True),
        (pc.field("caption").isin(["a photo of a gear"]), lambda row: row["caption"] == "a photo of a gear"),
    ],
)
def test_what_holds_is_read_in_the_published_order(published: Store, folder: Path, where: Any, holds: Any) -> None:
    found = open_dataset(published.uri, name="parts", where=where, verify=True)
    expected = [row["sample_id"] for row in list_rows(folder) if holds(row)]
    assert [sample["key"] for sample in found] == expected
    assert len(found) == len(expected)


@settings(max_examples=30)
@given(chosen=st.sets(st.integers(0, 41)), world_size=st.integers(1, 4), seed=st.none() | st.integers(0, 9))
def test_any_rows_can_be_chosen_shuffled_and_shared(
    published: Store, chosen: set[int], world_size: int, seed: int | None
) -> None:
    folder = Path(published.path("datasets/parts/1.0.0"))
    ids = [list_rows(folder)[number]["sample_id"] for number in sorted(chosen)]
    where = pc.field("sample_id").isin(pa.array(ids, pa.string()))
    shuffle: dict[str, Any] = {"shuffle_seed": seed, "shuffle_buffer": 5}
    parts = [
        open_dataset(published.uri, name="parts", where=where, rank=rank, world_size=world_size, **shuffle)
        for rank in range(world_size)
    ]
    found = [sample["key"] for part in parts for sample in part]
    assert sorted(found) == sorted(ids)
    assert seed is not None or found == ids


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (pc.field("sharpnes") > 1, NotFoundError, "no column 'sharpnes'; did you mean sharpness"),
        (pc.field("size_of_it") > 1, NotFoundError, "no column 'size_of_it'; did you mean .*caption"),
        (pc.field("sharpness") > "sharp", ReadingError, "cannot be computed: Function 'greater'"),
        (pc.field("sharpness"), ReadingError, "gives float; compare it"),
        ("sharpness > 100", ReadingError, "is no expression"),
    ],
)
def test_a_filter_without_an_answer_is_refused(published: Store, where: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        open_dataset(published.uri, name="parts", where=where)


def test_webdataset_cannot_filter(published: Store) -> None:
    with pytest.raises(ReadingError, match="knows no where="):
        open_dataset(published.uri, name="parts", where=pc.field("class_id") == 0).webdataset()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """datasets/parts/1.0.0 with 263 samples of 13 kB in 6 shards."""
    store = Store.open(str(tmp_path_factory.mktemp("large") / "store"), create=True)
    recipe = make_recipe(sharding={"max_samples": 50}, splits={"train": 1.0})
    publish_build(make_build(store, recipe, {"gear": 150, "hook": 100, "ring": 50}, pixels=64))
    return store


@pytest.mark.parametrize("spread", [True, False])
def test_a_twentieth_reads_less_than_a_tenth(large: Store, spread: bool) -> None:
    """All that is read from the filesystem counts, dataset.json and the manifest as well."""
    folder = Path(large.path("datasets/parts/1.0.0"))
    ids = [row["sample_id"] for row in list_rows(folder)]
    chosen = ids[::20] if spread else np.random.default_rng(1).permutation(ids)[: len(ids) // 20].tolist()
    CountedFileSystem.bytes_read.clear()
    found = open_dataset(f"counted://{large.root}", name="parts", where=pc.field("sample_id").isin(chosen))
    assert sorted(sample["key"] for sample in found) == sorted(chosen)
    size = sum(path.stat().st_size for path in folder.glob("shards/*.tar"))
    assert 0 < sum(CountedFileSystem.bytes_read.values()) <= 0.1 * size


def test_all_is_read_once_in_few_requests(large: Store) -> None:
    CountedFileSystem.bytes_read.clear()
    assert len(list(open_dataset(f"counted://{large.root}", name="parts"))) == 263
    for path in Path(large.path("datasets/parts/1.0.0/shards")).glob("*.tar"):
        assert CountedFileSystem.bytes_read[path.name] <= path.stat().st_size


@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 3_000_000)), max_size=30))
def test_requests_hold_all_parts_and_little_else(lengths: list[tuple[int, int]]) -> None:
    parts, position = [], 0
    for gap, size in lengths:
        parts.append((position + gap, position + gap + size))
        position += gap + size
    requests = plan_requests(parts)
    assert [number for request in requests for number in range(request.first, request.last + 1)] == list(
        range(len(parts))
    )
    for request in requests:
        held = parts[request.first : request.last + 1]
        wanted = sum(stop - start for start, stop in held)
        assert (request.start, request.stop) == (held[0][0], held[-1][1])
        assert request.stop - request.start <= wanted * (1 + MAX_WASTE)
        assert request.stop - request.start <= max(WINDOW, held[-1][1] - held[-1][0])
