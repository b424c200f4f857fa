"""Stage `inversions`: a row a sample, fillers left out, failures as rows, and an address that captions do not touch."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import numpy as np
import pytest
import torch

from tailforge.catalog.store import Store
from tailforge.flows.build.prepare import prepare_build
from tailforge.schemas.errors import EngineError
from tailforge.schemas.jobs import InversionJob, Prompt, SampleSpec, Slot
from tailforge.schemas.tables import INVERSIONS
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.engines.inversion import inversion_engine, inversion_job, pick_inverted
from tailforge.tasks.methods.natural_inversion.contract import Inverted
from tailforge.tasks.methods.natural_inversion.invert import invert
from tailforge.tasks.methods.packing.arrays import decode_array
from tailforge.tasks.methods.packing.png import decode_png
from tailforge.tasks.stages import inversions as stage
from tailforge.tasks.stages.work import inversions as work
from tests.support.inversion_recipes import MODULE, NAMES, SIDE, inversion_recipe, save_teacher
from tests.support.stages import run as run_stage
from tests.support.tiny_inversions import run, small

TEXT = "a photo of a thing"
PROMPT = Prompt(prompt_index=0, source="template:0", text=TEXT, slots=())


def make_job(
    tmp_path: Path, part: int = 0, text: str = TEXT, preparation: dict[str, Any] | None = None, **changes: Any
) -> InversionJob:
    folder = tmp_path / "recipe"
    if not folder.exists():
        save_teacher(folder / "teacher")
    concepts = [{"name": name, "requested": 3} for name in ("gear", "hook")]
    source = {"model": "teacher", "module": MODULE, **(preparation or {})}
    recipe = inversion_recipe(folder, changes, concepts=concepts, generator=source)
    build = prepare_build(str(recipe), str(tmp_path / "store"))
    prompt = PROMPT.model_copy(update={"text": text})
    return inversion_job(build, {"gear": [prompt], "hook": [prompt]}, 0, "template:0", part)


def test_a_run_has_a_row_a_sample_and_none_for_what_fills_it(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    assert len(job.places) == 8
    receipt = run_stage(stage.STAGE, job.build.store, job)
    rows = read_table(Store.open(job.build.store), receipt).cast(INVERSIONS).to_pylist()
    assert [row["sample_id"] for row in rows] == [place.sample_id for place in job.places if place.sample_id]
    assert [NAMES[row["label"]] for row in rows] == ["gear"] * 2 + ["hook"] * 2
    assert {"load", "compute", "wait"} <= set(receipt.timings)
    for row in rows:
        assert decode_png(row["image"]).shape == (SIDE, SIDE, 3)
        seen = decode_array(row["attention"])
        assert (seen.shape, seen.dtype) == ((1, SIDE, SIDE), np.float16)
        assert len(json.loads(row["record"])["teacher_logits"]) == len(NAMES)


def test_equal_runs_give_equal_tables_and_other_parts_other_images(tmp_path: Path) -> None:
    first, again = (work.invert_run(make_job(tmp_path)).table for _ in range(2))
    assert first.equals(again)
    other = work.invert_run(make_job(tmp_path, part=1)).table
    assert not set(first["image"].to_pylist()) & set(other["image"].to_pylist())


def test_the_samples_of_a_partition_are_picked_from_its_run(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    table = work.invert_run(job).table
    slots = tuple(Slot(name="concept", value="gear", start=start, end=start + 4) for start in (0, 9))
    wanted = [place for place in job.places if place.sample_id][2::-2]
    samples = [
        SampleSpec(sample_id=str(place.sample_id), seed=place.seed, prompt_index=0, replica=0, prompt="", slots=slots)
        for place in wanted
    ]
    found = list(pick_inverted(table, samples))
    assert [made.sample_id for made in found] == [place.sample_id for place in wanted]
    assert all(made.attention is not None and made.attention.shape == (2, SIDE, SIDE) for made in found)
    assert all(made.agreement is None for made in found)  # the teacher is asked once
    assert [made.provenance["label"] for made in found] == [place.label for place in wanted]


def test_the_address_follows_what_decides_the_images(tmp_path: Path) -> None:
    base = stage.locate(make_job(tmp_path)).fingerprint
    assert stage.locate(make_job(tmp_path, text="another text")).fingerprint == base
    assert stage.locate(make_job(tmp_path, part=1)).fingerprint != base
    assert stage.locate(make_job(tmp_path, steps=5)).fingerprint != base


@pytest.mark.parametrize("preparation", [{"size": [8, 8]}, {"mean": [0.5, 0.5, 0.5]}, {"std": [0.5, 0.5, 0.5]}])
def test_the_address_follows_how_images_are_prepared(preparation: dict[str, Any], tmp_path: Path) -> None:
    base = stage.locate(make_job(tmp_path)).fingerprint
    assert stage.locate(make_job(tmp_path, preparation=preparation)).fingerprint != base


def test_the_address_follows_the_teachers_weights(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    shutil.rmtree(tmp_path / "recipe" / "teacher")
    save_teacher(tmp_path / "recipe" / "teacher", seed=5)
    assert stage.locate(make_job(tmp_path)).fingerprint != stage.locate(job).fingerprint


def test_a_preset_is_what_its_numbers_are(tmp_path: Path) -> None:
    named = make_job(tmp_path, preset="cifar10", score_every=1)
    numbers = inversion_engine(named.build).model_dump(exclude={"kind", "preset", "pixel_rate"})
    assert stage.locate(make_job(tmp_path, **numbers)).fingerprint == stage.locate(named).fingerprint


def test_one_run_inverts_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, met = Barrier(2, timeout=1), []

    def meet(*arguments: Any) -> Iterator[Inverted]:
        try:
            both.wait()
            met.append(True)
        except BrokenBarrierError:
            met.append(False)
        return invert(*arguments)

    monkeypatch.setattr(work, "invert", meet)
    jobs = [make_job(tmp_path, part=part) for part in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work.invert_run, jobs))
    assert met == [False, False]


def test_a_batch_that_used_all_its_steps_has_not_settled() -> None:
    (image, *_) = run(small(), steps=4)
    assert work.describe_inversion(image, 4)["stop_reason"] == "steps"
    assert work.describe_inversion(image, 5)["stop_reason"] == "settled"


def test_a_failed_image_is_a_row_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_fails(*arguments: Any) -> Iterator[Inverted]:
        for place, image in enumerate(invert(*arguments)):
            yield replace(image, pixels=None, logits=None, losses=None, error="not finite") if place == 1 else image

    monkeypatch.setattr(work, "invert", one_fails)
    job = make_job(tmp_path)
    table = work.invert_run(job).table
    rows = table.to_pylist()
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "ok"]
    assert rows[1]["error"] == "not finite"
    assert rows[1]["image"] is rows[1]["attention"] is None
    sample = SampleSpec(sample_id=rows[1]["sample_id"], seed=0, prompt_index=0, replica=0, prompt="", slots=())
    (made,) = pick_inverted(table, [sample])
    assert (made.error, made.pixels, made.attention) == ("not finite", None, None)


def test_memory_that_runs_out_says_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(work, "invert", full)
    with pytest.raises(EngineError, match=r"r0 template:0 #0: out of memory with 1 batch of 8 images; lower"):
        work.invert_run(make_job(tmp_path))
