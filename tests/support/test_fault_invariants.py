"""The invariants of fault schedules find what they are for: samples lost or doubled, half a version, other bytes."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tailforge.catalog.store import Store
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.fault_invariants import Expected, describe, find_half_published, find_problems
from tests.support.fault_schedules import KINDS, STAGES, draw_schedules

COUNTS = {"gear": 8, "hook": 8}


def publish(folder: Path, counts: dict[str, int], **how: str) -> Path:
    """A store with one version; returns the version's folder."""
    store = Store.open(str(folder), create=True)
    publish_build(
        make_build(store, make_recipe(concepts=list(counts)), counts, **how), {"report/index.html": b"<html>"}
    )
    return folder / "datasets" / "parts" / "1.0.0"


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return publish(tmp_path / "store", COUNTS)


@pytest.fixture
def expected(tmp_path: Path) -> Expected:
    publish(tmp_path / "undisturbed", COUNTS)
    return describe(Store.open(str(tmp_path / "undisturbed")), "parts", "1.0.0")


def problems(version: Path, expected: Expected) -> str:
    return "\n".join(find_problems(Store.open(str(version.parents[2])), expected))


def test_equal_stores_have_no_problem(version: Path, expected: Expected) -> None:
    assert problems(version, expected) == ""
    (version.parent / ".tmp-killed").mkdir()  # hidden from readers
    assert problems(version, expected) == ""


def test_a_lost_sample_is_found(tmp_path: Path, expected: Expected) -> None:
    """In a version that agrees with itself."""
    found = problems(publish(tmp_path / "store", {"gear": 8, "hook": 7}), expected)
    assert "manifest: sample" in found
    assert "reader: sample" in found
    assert "is lost" in found


def test_a_sample_of_no_plan_is_found(tmp_path: Path, expected: Expected) -> None:
    assert "is of no plan" in problems(publish(tmp_path / "store", {"gear": 9, "hook": 8}), expected)


def test_another_image_is_found(tmp_path: Path, expected: Expected) -> None:
    found = problems(publish(tmp_path / "store", COUNTS, changed=expected.samples[0]), expected)
    assert "has another digest" in found
    assert "rows of the manifest differ" in found
    assert "sample" not in found


def test_a_doubled_sample_is_found(version: Path, expected: Expected) -> None:
    shard = next((version / "shards").glob("train-*.tar"))
    with tarfile.open(shard) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    key = members[0][0].split(".")[0]
    with tarfile.open(shard, "a") as tar:
        for name, data in members:
            if name.startswith(key):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    assert f"{key}" in problems(version, expected)


def test_a_second_version_of_the_same_is_found(version: Path, expected: Expected) -> None:
    shutil.copytree(version, version.parent / "1.0.1")
    assert "versions ['1.0.0', '1.0.1']" in problems(version, expected)


def half(version: Path) -> None:
    (version.parent / "1.1.0" / "shards").mkdir(parents=True)


def without_a_shard(version: Path) -> None:
    next((version / "shards").iterdir()).unlink()


def torn(version: Path) -> None:
    path = version / "manifest.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def unreadable(version: Path) -> None:
    (version / "dataset.json").write_text("{")


def unfinished_file(version: Path) -> None:
    (version / "shards" / ".tmp-1-train-000000.tar").write_bytes(b"")


def beside(version: Path) -> None:
    (version.parent / "shards").mkdir()


HALVES: dict[str, Callable[[Path], None]] = {
    "half-published": half,
    "is missing": without_a_shard,
    "manifest.parquet": torn,
    "cannot be verified": unreadable,
    "temporary file": unfinished_file,
    "beside the versions": beside,
}


@pytest.mark.parametrize("problem", HALVES)
def test_half_a_version_is_found(problem: str, version: Path, expected: Expected) -> None:
    HALVES[problem](version)
    assert problem in "\n".join(find_half_published(Store.open(str(version.parents[2])), "parts"))
    assert problem in problems(version, expected)


def test_every_fault_meets_every_stage() -> None:
    drawn = [fault for schedule in draw_schedules(42, seed=1) for fault in schedule.faults]
    assert {(fault.kind, fault.stage) for fault in drawn} == {(kind, stage) for kind in KINDS for stage in STAGES}
    assert draw_schedules(50, seed=1) == draw_schedules(50, seed=1)
    assert draw_schedules(50, seed=1) != draw_schedules(50, seed=2)
    assert all(1 <= fault.place({f"{fault.stage}/{fault.operation}": 3}) <= 3 for fault in drawn)
