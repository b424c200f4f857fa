"""The training tasks on a tiny recipe: all is written, finished work is not done again, a look on the way works."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailforge.schemas.errors import TrainingError
from tailforge.tasks.models.checkpoints import save_checkpoint
from tailforge.tasks.training.embedded import (
    evaluate_generator,
    export_models,
    fit_autoencoder,
    fit_clip,
    fit_diffusion,
    fit_image_tower,
    fit_judges,
    render_pools,
)
from tailforge.tasks.training.embedded_stages import TrainingJob, checkpoint_digest, stage_key
from tailforge.tasks.training.pools import open_pool, render_pool
from tests.support.repository import ROOT
from tests.support.tiny_training import tiny_settings

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
TASKS = (
    render_pools,
    fit_autoencoder,
    fit_clip,
    fit_judges,
    fit_diffusion,
    fit_image_tower,
    export_models,
    evaluate_generator,
)


def job_in(folder: Path, **changes: Any) -> TrainingJob:
    recipe = tiny_settings(**changes)
    return TrainingJob(recipe=recipe, work_dir=str(folder / "work"), models_dir=str(folder / "models"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingJob, list[dict[str, Any]]]:
    job = job_in(tmp_path_factory.mktemp("training"), checkpoint_every_s=1e-9)
    plain = job.model_dump(mode="json")
    return job, [task.fn(plain) for task in TASKS]


def test_every_stage_leaves_a_json_receipt(trained: tuple[TrainingJob, list[dict[str, Any]]]) -> None:
    job, receipts = trained
    assert [json.loads(json.dumps(receipt)) for receipt in receipts] == receipts
    assert {receipt["stage"]: receipt["key"] for receipt in receipts} == {
        receipt["stage"]: stage_key(job.recipe, receipt["stage"]) for receipt in receipts
    }


def test_model_card_and_judges_are_written(trained: tuple[TrainingJob, list[dict[str, Any]]]) -> None:
    job, receipts = trained
    card = (job.model_folder / "README.md").read_text()
    assert "dB PSNR" in card
    assert "| hook | 1.00% | 1.00% | 0 |" in card
    rows = receipts[-1]["measures"]["rows"]
    assert {row["arm"] for row in rows} >= {"gear", "hook", "head", "tail"}
    assert sorted(path.name for path in job.judges_folder.iterdir()) == [
        "classifier.safetensors",
        "config.json",
        "segmenter.safetensors",
    ]


def test_finished_stages_are_not_done_again(trained: tuple[TrainingJob, list[dict[str, Any]]]) -> None:
    job, receipts = trained
    before = {path: path.stat().st_mtime_ns for path in Path(job.work_dir).rglob("*") if path.is_file()}
    assert [task.fn(job.model_dump(mode="json")) for task in TASKS] == receipts
    assert {path: path.stat().st_mtime_ns for path in Path(job.work_dir).rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(
    trained: tuple[TrainingJob, list[dict[str, Any]]], tmp_path: Path
) -> None:
    job = job_in(tmp_path, checkpoint_every_s=1e-9)
    plain = job.model_dump(mode="json")
    program = "import sys, json; from tailforge.tasks.training import embedded as t; job = json.loads(sys.argv[1])\n"
    program += "\n".join(f"t.{task.fn.__name__}.fn(job)" for task in TASKS)
    checkpoint = job.folder("diffusion") / "checkpoint.safetensors"
    with subprocess.Popen([sys.executable, "-c", program, json.dumps(plain)], cwd=ROOT) as child:
        while child.poll() is None and not checkpoint.exists():
            time.sleep(0.005)
        child.kill()
    assert not (job.folder("diffusion") / "receipt.json").exists()
    for task in TASKS:
        task.fn(plain)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (job.model_folder / weights).read_bytes() == (trained[0].model_folder / weights).read_bytes()


def test_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    render_pools.fn(job.model_dump(mode="json"))
    digest = checkpoint_digest(tiny_settings(seed=6), "autoencoder", 0)
    save_checkpoint(job.folder("autoencoder") / "checkpoint.safetensors", {"step": torch.tensor(0)}, digest, 0.0)
    with pytest.raises(TrainingError, match="made under other settings"):
        fit_autoencoder.fn(job.model_dump(mode="json"))


def test_later_phases_may_change_but_not_earlier_ones() -> None:
    recipe = tiny_settings()
    first, second = recipe.diffusion.phases

    def with_phases(*phases: Any) -> Any:
        return recipe.model_copy(update={"diffusion": recipe.diffusion.model_copy(update={"phases": phases})})

    longer = with_phases(first, second.model_copy(update={"steps": 9}))
    other_start = with_phases(first.model_copy(update={"learning_rate": (0.5, 0.001)}), second)
    assert checkpoint_digest(recipe, "diffusion", 3) == checkpoint_digest(longer, "diffusion", 3)
    assert checkpoint_digest(recipe, "diffusion", 3) != checkpoint_digest(other_start, "diffusion", 3)
    assert checkpoint_digest(recipe, "diffusion", 4) == checkpoint_digest(longer, "diffusion", 4)
    three = with_phases(first, second, second)
    assert checkpoint_digest(three, "diffusion", 5) != checkpoint_digest(longer, "diffusion", 5)
    assert stage_key(recipe, "diffusion") != stage_key(longer, "diffusion")
    assert stage_key(recipe, "clip") == stage_key(longer, "clip")


def test_a_pool_of_another_renderer_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[tuple[int, int]] = []
    for version in ("old", "new", "new"):
        monkeypatch.setattr("tailforge.tasks.training.pools.RENDER_VERSION", version)
        render_pool(tmp_path / "pool", {"gear": 1}, 4, 32, 1, lambda done, total: rendered.append((done, total)))
    assert rendered == [(1, 1), (1, 1)]


def test_pools_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    counts = {"gear": 3, "hook": 2}
    for workers in (1, 2):
        assert render_pool(tmp_path / str(workers), counts, seed=4, size_px=32, workers=workers) == 5
    one, two = (open_pool(tmp_path / str(workers)) for workers in (1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert one.labels[:, 0].tolist() == [0, 0, 0, 11, 11]
    assert one.masks.any(axis=(1, 2)).all()
