"""Keep the books of the embedded generator's training: per stage a folder, a key, a receipt, a checkpoint, progress.

A finished stage leaves receipt.json, written last, with the key of everything that decided its result. If the key is
the same again, there is nothing to do. The work directory is on the local disk, because pools are memory-mapped.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict

from tailforge.schemas.training.embedded import TrainingRecipe
from tailforge.schemas.under_way import working
from tailforge.tasks.artifacts.contract import digest, library_versions
from tailforge.tasks.methods.embedded import autoencoder as train_autoencoder
from tailforge.tasks.methods.embedded import captions as write_captions
from tailforge.tasks.methods.embedded import clip as train_clip
from tailforge.tasks.methods.embedded import diffusion as train_diffusion
from tailforge.tasks.methods.embedded import judges as train_judges
from tailforge.tasks.methods.embedded import measure as measure_generator
from tailforge.tasks.methods.training_loop import Observe, Saved, Trainable
from tailforge.tasks.training import runs as training_runs
from tailforge.tasks.training.pools import RENDER_VERSION
from tailforge.tasks.training.runs import find_receipt

EXPORT_VERSION = "export.1"
REPORT_EVERY_S = 30.0

Log = Callable[[str], None]
Trained = TypeVar("Trained")


class TrainingJob(BaseModel):
    """Input of every task of one training run. It is JSON-like, as is all that travels between tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: TrainingRecipe
    work_dir: str
    models_dir: str

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage."""
        return Path(self.work_dir) / stage

    @property
    def model_folder(self) -> Path:
        """Return the folder of the finished generator."""
        return Path(self.models_dir) / self.recipe.name

    @property
    def judges_folder(self) -> Path:
        """Return the folder of the finished judges."""
        return Path(self.models_dir) / "judges"


def stage_key(recipe: TrainingRecipe, stage: str) -> str:
    """Return the content key of a stage, from its version, its settings and the keys of the stages that it reads."""
    version, settings, inputs = _describe(recipe, stage)
    return digest(
        {"version": version, "settings": settings, "inputs": {name: stage_key(recipe, name) for name in inputs}}
    )[:32]


def checkpoint_digest(recipe: TrainingRecipe, stage: str, step: int) -> str:
    """Return the digest of all that a checkpoint at `step` depends on. Later phases of the diffusion may change."""
    if stage != "diffusion":
        return stage_key(recipe, stage)
    version, settings, inputs = _describe(recipe, stage)

    # Keep the phases that have begun.
    begun = []
    for phase in recipe.diffusion.phases:
        rates_differ = phase.learning_rate[0] != phase.learning_rate[1]
        # The length of a phase that goes on has decided nothing yet, unless the rate depends on it.
        open_end = step <= phase.steps and not rates_differ
        begun.append(phase.model_dump(mode="json", exclude={"steps"} if open_end else set(), exclude_none=True))
        step -= phase.steps
        if step <= 0:
            break

    keys = {name: stage_key(recipe, name) for name in inputs}
    return digest({"version": version, "settings": settings | {"phases": begun}, "inputs": keys})[:32]


def finish_once(job: TrainingJob, stage: str, produce: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Return the receipt of a stage. If it is unfinished, `produce(folder)` does the work and returns measures."""
    torch.set_num_threads(job.recipe.threads)
    folder, key = job.folder(stage), stage_key(job.recipe, stage)
    if found := find_receipt(folder, key):
        logger()(f"{stage}: finished before")
        return found
    logger()(f"{stage}: begins")

    def measure(folder: Path) -> dict[str, Any]:
        return {"stage": stage, "measures": produce(folder), "versions": library_versions()}

    with working(stage):
        content = training_runs.finish_once(folder, key, measure)
    logger()(f"{stage}: finished")
    return content


def train_stage(
    job: TrainingJob,
    stage: str,
    steps: int,
    train: Callable[[Saved, Observe], Trained],
    name: str = "checkpoint",
) -> tuple[Trained, float]:
    """Return the result of `train(saved, observe)`, from the stage's checkpoint on, and the minutes of all runs.

    A line every half minute reports progress. Errors: TrainingError.
    """

    def resume(saved: Saved, observe: Observe) -> Trained:
        if saved:
            logger()(f"{stage}: resuming at step {int(saved['step'])}")
        return train(saved, observe)

    path, every_s = job.folder(stage) / f"{name}.safetensors", job.recipe.checkpoint_every_s
    trained, seconds = training_runs.run_training(
        path, lambda step: checkpoint_digest(job.recipe, stage, step), every_s, steps, resume, Progress(stage, logger())
    )
    return trained, round(seconds / 60, 1)


class Progress:
    """An observer that logs a line every half minute."""

    def __init__(self, stage: str, log: Log) -> None:
        self.stage = stage
        self.log = log
        self._since = time.monotonic()
        self._losses: list[float] = []

    def __call__(self, learner: Trainable, loss: float) -> None:
        """Note a step's loss, and log the mean since the last line when it is time."""
        self._losses.append(loss)
        seconds = time.monotonic() - self._since
        if seconds >= REPORT_EVERY_S:
            mean = sum(self._losses) / len(self._losses)
            self.log(f"{self.stage}: step {learner.step}, loss {mean:.4f}, {len(self._losses) / seconds:.2f} steps/s")
            self._since, self._losses = time.monotonic(), []


def logger() -> Log:
    """Return the log of all stages: this module's logger. The flow shows its lines on standard error."""
    return logging.getLogger(__name__).info


def _describe(recipe: TrainingRecipe, stage: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Return version, settings and inputs of a stage."""
    common = {"seed": recipe.seed, "threads": recipe.threads}

    # A new wording of captions changes all that learns from them.
    texts = f"{train_clip.VERSION} {write_captions.VERSION}"
    pools = {"long_tailed": recipe.long_tailed, "balanced": recipe.balanced, "held_out": recipe.held_out}
    drawn = {name: pool.model_dump(mode="json") for name, pool in pools.items()}

    table: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
        "pools": (RENDER_VERSION, drawn | {"size_px": recipe.size_px}, ()),
        "autoencoder": (train_autoencoder.VERSION, common | recipe.autoencoder.model_dump(mode="json"), ("pools",)),
        "clip": (texts, common | recipe.clip.model_dump(mode="json", exclude={"image_steps"}), ("pools",)),
        "image_tower": (
            f"{texts} {train_clip.TOWER_VERSION}",
            common | recipe.clip.model_dump(mode="json"),
            ("pools", "clip"),
        ),
        "diffusion": (
            f"{train_diffusion.VERSION} {write_captions.VERSION}",
            common | recipe.diffusion.model_dump(mode="json"),
            ("pools", "autoencoder", "clip"),
        ),
        "judges": (train_judges.VERSION, common | recipe.judges.model_dump(mode="json"), ("pools",)),
        "export": (EXPORT_VERSION, {"name": recipe.name}, ("diffusion", "image_tower", "judges")),
        "evaluation": (measure_generator.VERSION, recipe.evaluation.model_dump(mode="json"), ("export",)),
    }
    return table[stage]
