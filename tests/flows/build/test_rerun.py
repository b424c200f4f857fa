"""What failed, as status tells it, and making it again through the command: nothing else is touched."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tailforge.schemas.jobs import PartitionJob
from tailforge.tasks.engines.plain import PlainSampling
from tailforge.tasks.methods.sampling.plain import BLANK
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.stages.work import masks as annotate_masks
from tests.flows.conftest import Command, build

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]
LABEL = "gear r0 template:0 #0"


@pytest.fixture
def ask(command: Command, tiny_recipe: Path, tmp_path: Path) -> Any:
    """What a command prints of the tiny recipe in this test's store, as JSON."""

    def run(name: str, *words: str) -> dict[str, Any]:
        code, out, err = command(name, tiny_recipe, "--store", tmp_path / "store", "--json", *words)
        assert code == 0, err
        return json.loads(out)  # type: ignore[no-any-return]

    return run


def files(store: Path, stage: str) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in store.glob(f"artifacts/{stage}/*/part-*")}


def test_a_bug_in_a_later_stage_keeps_everything_upstream(
    ask: Any, command: Command, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = annotate_masks.annotate_partition

    def broken(job: PartitionJob, samples: Any) -> Any:
        if job.label == LABEL:
            raise ZeroDivisionError(f"no pixel in {job.label}")
        return real(job, samples)

    with monkeypatch.context() as patch:
        patch.setattr(annotate_masks, "annotate_partition", broken)
        with pytest.raises(ZeroDivisionError):
            command("build", tiny_recipe, "--store", tmp_path / "store")
    drawn = files(tmp_path / "store", "samples")
    found = ask("status")
    (failed,) = [each for each in found["partitions"] if each["state"] == "failed"]
    assert (failed["partition"], failed["stage"]) == (LABEL, "masks")
    assert (failed["concept"], failed["round"], failed["source"], failed["part"]) == ("gear", 0, "template:0", 0)
    (cause,) = found["failures"]
    assert cause["cause"].startswith("ZeroDivisionError: no pixel in ... (")
    assert "upstream is kept" in cause["mend"]
    told = command("status", tiny_recipe, "--store", tmp_path / "store")[1]
    assert LABEL in told
    assert "nothing failed" not in told
    made = ask("build")
    assert (made["version"], made["samples"]) == ("1.0.0", 15)
    assert drawn.items() <= files(tmp_path / "store", "samples").items()
    assert ask("status")["partitions"] == ask("status")["failures"] == []


def test_status_of_a_build_that_is_not_finished_says_what_goes_on(
    command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    told = command("status", tiny_recipe, "--store", tmp_path / "store")[1]
    assert "nothing failed: `tailforge build` with this recipe makes the missing partitions" in told


def test_failed_samples_are_patched_and_their_neighbours_stay(
    ask: Any, command: Command, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PlainSampling.render

    def blank_one(self: Any, job: Any, samples: Any, inputs: Any, clock: Any) -> Any:
        for number, made in enumerate(real(self, job, samples, inputs, clock)):
            lost = job.label == LABEL and number == 1
            yield Rendered(made.sample_id, BLANK, None, None, {}) if lost else made

    with monkeypatch.context() as patch:
        patch.setattr(PlainSampling, "render", blank_one)
        build(command, tiny_recipe, tmp_path / "store")
    (failed,) = ask("status")["partitions"]
    assert (failed["partition"], failed["state"], failed["causes"]) == (LABEL, "failed samples", {BLANK: 1})
    before = files(tmp_path / "store", "samples")

    drawn: list[int] = []

    def add_light(self: Any, job: Any, samples: Any, inputs: Any, clock: Any) -> Any:
        drawn.append(len(samples))
        for made in real(self, job, samples, inputs, clock):  # what a neighbour would be now is not what is kept
            yield Rendered(made.sample_id, None, np.flip(made.pixels, 0).copy(), made.attention, made.provenance)

    with monkeypatch.context() as patch:
        patch.setattr(PlainSampling, "render", add_light)
        made = ask("rerun", "--failed-samples")
    assert (made["again"], made["work"]["samples"], made["work"]["masks"], drawn) == (1, 1, 1, [4])
    after = files(tmp_path / "store", "samples")
    (table,) = [path for path in before if path.suffix == ".parquet" and before[path] != after[path]]
    assert set(before) == set(after)
    one = pq.ParquetFile(io.BytesIO(before[table][1])).read().to_pylist()
    two = pq.read_table(table).to_pylist()
    assert [row["status"] for row in one] == ["ok", "failed", "ok", "ok"]
    assert [a == b for a, b in zip(one, two, strict=True)] == [True, False, True, True]
    assert two[1]["status"] == "ok"
    nothing = ask("rerun", "--failed-samples")
    assert (nothing["again"], nothing["work"]) == (0, {})
    assert "nothing to do" in nothing["nothing"]


def test_one_partition_is_made_again(ask: Any, command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    ask("build")
    before = files(tmp_path / "store", "samples")
    asked = ask("rerun", "--partition", LABEL, "--dry-run")
    stages = ["samples", "masks", "verdicts"]
    assert asked["parts"] == [{"stage": stage, "partition": LABEL} for stage in stages]
    assert files(tmp_path / "store", "samples") == before
    assert ask("status")["complete"]
    made = ask("rerun", "--partition", LABEL)
    assert made["again"] == asked["again"] == len(stages)
    assert (made["work"], made["version"]) == ({"samples": 1, "masks": 1, "verdicts": 1}, "1.0.0")
    after = files(tmp_path / "store", "samples")
    assert sum(before[path] != after[path] for path in before) == 2  # the table, written anew, and its receipt
    made = ask("rerun", "--partition", LABEL, "--partition", "bench r0 template:1 #0", "--stage", "masks")
    assert made["work"] == {"masks": 2, "verdicts": 2}
    words = [tiny_recipe, "--store", tmp_path / "store"]
    code, _, err = command("rerun", *words, "--partition", "gear r0 template:0 #9")
    assert code == 2
    assert LABEL in err
    assert command("rerun", *words)[0] == 2
    assert command("rerun", *words, "--stage", "mask")[0] == 2
