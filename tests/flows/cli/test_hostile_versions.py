"""Versions of others, damaged or forged: one clear error, nothing run, nothing written elsewhere, whatever is asked."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tailforge.catalog.store import Store
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.hostile_commands import NAME, Trial, try_version
from tests.support.hostile_versions import damage_version, edit_record
from tests.support.tiny_pictures import NAMES, save_toy_teacher

NewTrial = Callable[..., Trial]
PLANTED = """
from pathlib import Path
from typing import Any
Path({mark!r}).write_text("imported")
def run(*arguments, **named):
    Path({mark!r}).write_text("called")
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two versions of one dataset, the later with a changed image and a report."""
    folder = tmp_path_factory.mktemp("sound") / "store"
    store = Store.open(str(folder), create=True)
    recipe = make_recipe(concepts=NAMES, sharding={"max_samples": 6, "attention": True})
    counts = dict.fromkeys(NAMES, 6)
    build = make_build(store, recipe, counts)
    extra = {"report/index.html": b"<html>", "report/summary.json": b'{"costs": {"seconds": 1.5}}'}
    publish_build(build, extra)
    changed = list_ids(folder / "datasets" / NAME / "1.0.0")[0]
    publish_build(make_build(store, recipe, counts, changed=changed), extra)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_teacher(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture
def new_trial(sound: Path, tmp_path: Path) -> NewTrial:
    """A copy of the sound store in a box of its own."""

    def make(label: str, teacher: Path | None = None) -> Trial:
        trial = Trial(tmp_path / label, list_ids(sound / "datasets" / NAME / "2.0.0"), teacher)
        trial.root.joinpath("deep").mkdir(parents=True)
        shutil.copytree(sound, trial.store)
        return trial

    return make


def list_ids(version: Path) -> list[str]:
    return [
        sample_id
        for table in ("manifest", "rejects")
        for sample_id in pq.ParquetFile(version / f"{table}.parquet").read(["sample_id"])["sample_id"].to_pylist()
    ]


def latest(trial: Trial) -> Path:
    return Path(trial.store) / "datasets" / NAME / "2.0.0"


def run_campaign(new_trial: NewTrial, seeds: range, *, every: int = 1, heavy_every: int = 0) -> tuple[int, int]:
    """(runs, runs that ended with an error) of a damaged version a seed; asserts that nothing went wrong."""
    problems: list[str] = []
    runs = refused = 0
    for seed in seeds:
        trial = new_trial(f"box-{seed}")
        told = damage_version(latest(trial), seed)
        try_version(trial, every=every, first=seed, heavy=bool(heavy_every) and seed % heavy_every == 0)
        problems += [f"{told}\n{each}" for each in trial.problems]
        runs, refused = runs + trial.runs, refused + trial.refused
        shutil.rmtree(trial.box)
    assert not problems, f"{len(problems)} problems\n" + "\n\n".join(problems[:8])
    return runs, refused


def test_a_sound_version_is_used(new_trial: NewTrial, teacher: Path) -> None:
    trial = new_trial("sound", teacher)
    try_version(trial, heavy=True)
    assert trial.problems == []
    assert trial.refused <= 5  # the generator that drew it is not there, and one batch is too large


def test_sixty_damaged_versions(new_trial: NewTrial) -> None:
    runs, refused = run_campaign(new_trial, range(60), every=6)
    assert runs > 180
    assert refused > runs / 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_hundreds_of_damaged_versions(new_trial: NewTrial) -> None:
    runs, refused = run_campaign(new_trial, range(1000, 1320), every=2)
    assert runs > 2500
    assert refused > runs / 4


@pytest.mark.parametrize(
    "module", ["planted:run", "subprocess:check_call", "os:system", "tests.support.tiny_teachers:CifarResNet"]
)
def test_a_version_never_chooses_code(new_trial: NewTrial, module: str) -> None:
    trial = new_trial("planted")
    mark, here = trial.root / "mark", trial.root / "deep"
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text(json.dumps({"arguments": {"args": ["touch", str(mark)]}}))
    for folder in (here, here / "model", latest(trial)):
        (folder / "planted.py").write_text(PLANTED.format(mark=str(mark)))
    source = {"model": "model", "module": module}

    def change(record: dict[str, Any]) -> None:
        record["recipe"] |= {
            "engine": {"kind": "natural_inversion", "batch_size": 16},
            "generator": source,
            "annotation": {"kind": "class_activation"},
            "quality": {"verifier": source, "gates": {"verifier_agreement": {"min": 0.1}}},
            "partition_size": None,
        }

    edit_record(latest(trial), change)
    try_version(trial)
    assert trial.problems == []
    assert not mark.exists()
    assert "planted" not in sys.modules
