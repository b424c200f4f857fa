"""The decision on a round: its costs, its address, and the seconds that it keeps."""

from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.store import Store
from tailforge.schemas.allocation import AllocationJob
from tailforge.schemas.jobs import BuildContext, ResolvedImages, ResolvedModel
from tailforge.schemas.recipe import parse_recipe
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.stages.allocation import STAGE

REAL = ResolvedImages(
    path="real", digest="0", classes=("gear", "hook"), numbers=(0, 1), height=32, width=32, channels=1, fit="exact"
)


def make_job(folder: Path, budget: Any, seconds: tuple[float, float] = (3.0, 9.0), **changes: Any) -> AllocationJob:
    data = {
        "name": "parts",
        "description": "Parts.",
        "seed": 1,
        "generator": {"model": "somewhere"},
        "engine": {"kind": "plain", "batch_size": 4},
        "concepts": [{"name": name, "requested": 90} for name in REAL.classes],
        "allocation": {"by": "gain", "budget": budget, "real": {"folder": "real"}, "round": 40},
    }
    model = ResolvedModel(path="somewhere", digest="g")
    build = BuildContext(store=str(folder), recipe=parse_recipe(data, "test"), generator=model, real=REAL)
    known: dict[str, Any] = {
        "drawn": ((6, 6),),
        "kept": ((6, 6),),
        "recall": ((0.3, 0.3), (0.4, 0.4)),
        "macro": (0.3, 0.4),
        "validation": (30, 30),
        "seconds": seconds,
    }
    return AllocationJob(build=build, **(known | changes))


def decide(job: AllocationJob) -> tuple[list[int], dict[str, Any]]:
    store = Store.open(job.build.store)
    receipt = STAGE.make(store, job)
    return read_table(store, receipt)["images"].to_pylist(), dict(receipt.details)


def test_a_budget_of_images_ignores_seconds(tmp_path: Path) -> None:
    images, details = decide(make_job(tmp_path, 40))
    assert sum(images) == 28  # 12 of 40 are spent, 7 batches of 4 fit
    assert (details["costs"], details["left"]) == ([1.0, 1.0], 28.0)
    assert details["seconds"] == [3.0, 9.0]


def test_a_budget_of_seconds_counts_what_each_concept_took(tmp_path: Path) -> None:
    images, details = decide(make_job(tmp_path, {"seconds": 30}))
    assert details["costs"] == pytest.approx([0.5, 1.5])
    assert details["left"] == 18
    assert 0.5 * images[0] + 1.5 * images[1] <= 18 < 0.5 * images[0] + 1.5 * images[1] + 6
    assert images[0] > images[1]


def test_a_concept_without_images_costs_what_the_others_do(tmp_path: Path) -> None:
    job = make_job(tmp_path, {"seconds": 99}, (3.0, 0.0), drawn=((6, 0),), kept=((6, 0),))
    assert decide(job)[1]["costs"] == pytest.approx([0.5, 0.5])


def test_a_decision_that_was_made_stays_however_long_another_run_takes(tmp_path: Path) -> None:
    first = decide(make_job(tmp_path, {"seconds": 30}))
    assert decide(make_job(tmp_path, {"seconds": 30}, (9.0, 3.0))) == first
    other = decide(make_job(tmp_path / "other", {"seconds": 30}, (9.0, 3.0)))
    assert other[0][1] > other[0][0]
    assert decide(make_job(tmp_path, {"seconds": 30}, recall=((0.3, 0.3), (0.5, 0.3))))[0] != first[0]
