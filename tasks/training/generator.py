"""Train a generator's UNet in its work folder: checkpoints, logs, pictures on the way, and the final weights.

It runs alone, or in every process that `accelerate launch -m tailforge.tasks.training.generator JOB` starts. The first
process writes the files.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tailforge.schemas.extras import import_extra
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.training.generator import FEW, GeneratorTraining
from tailforge.schemas.under_way import Watch
from tailforge.tasks.artifacts.contract import digest
from tailforge.tasks.methods.generator_training import VERSION
from tailforge.tasks.methods.generator_training.batches import EpochSampler, Examples, draw_by_class, draw_by_root
from tailforge.tasks.methods.generator_training.denoising import Network, measure_error
from tailforge.tasks.methods.generator_training.plan import Plan, plan_learning
from tailforge.tasks.methods.generator_training.structure_game import StructureGame
from tailforge.tasks.methods.generator_training.train import DenoiserLearner, train_denoiser
from tailforge.tasks.methods.training_loop import Observe, Saved, Trainable
from tailforge.tasks.models.checkpoints import write_whole
from tailforge.tasks.models.devices import AcceleratedDevices
from tailforge.tasks.models.trainable_generator import TrainableGenerator
from tailforge.tasks.training.generator_stages import Work, fit_structure_encoder, open_examples
from tailforge.tasks.training.previews import draw_previews, plan_previews
from tailforge.tasks.training.runs import CHECKPOINT, run_training

LOGGED_EVERY = 10  # steps
FIGURES, PICTURES = "validation.json", "pictures"


def name_picture(step: int) -> str:
    """Return the file name of a measurement's pictures."""
    return f"step-{step:08d}.png"


def load_curves() -> Any:
    """Return the module that writes the curves of a training. Errors: MissingExtraError."""
    return import_extra("torch.utils.tensorboard", "the curves of a training")


def generator_key(work: Work) -> str:
    """Return the digest of everything that decides the weights."""
    # How often it saves changes nothing; what is held out is not learnt.
    recipe = work.recipe.model_dump(mode="json", exclude={"name", "images", "validation"})
    recipe["learning"].pop("checkpoint_every_s")
    held_out = work.recipe.validation.held_out, work.recipe.validation.every
    return digest(
        {
            "version": VERSION,
            "images": work.images_key,
            "base": work.base.digest,
            "recipe": recipe,
            "held_out": held_out,
        }
    )


def fit_generator(work: Work, watch: Watch) -> dict[str, Any]:
    """Train to the end, from the last checkpoint on; return the measures. The folder's `unet` has the averaged weights.

    Errors: TrainingError; the last checkpoint stays whatever happens.
    """
    recipe, learning = work.recipe, work.recipe.learning
    if learning.threads:
        torch.set_num_threads(learning.threads)

    # Open the base and the images, and prepare the weights that learn.
    devices = AcceleratedDevices(learning.precision)
    generator = TrainableGenerator(work.base, devices.device)
    learnt, measured = open_examples(work)
    game = _start_game(work, generator, learnt, devices)
    network = generator.prepare(recipe, keeps_source=game is not None and compares_with_source(recipe, len(learnt)))

    # Train by the one loop of all denoisers.
    plan = plan_learning(learning, recipe.structure.play_every)
    groups = () if learning.balance == "none" else tuple(learnt.by_class().values())
    balanced = draw_by_root if learning.balance == "root" else draw_by_class
    sampler = EpochSampler(learnt, learning.batch, learning.prompt_dropout, learning.seed, groups, balanced)
    monitor = Monitor(work, generator, network, plan, learnt, measured, devices, watch)

    def train(saved: Saved, observe: Observe) -> DenoiserLearner:
        monitor.start(int(saved["step"]) if saved else 0)
        return train_denoiser(network, sampler, plan, game, devices, saved, observe)

    key, first = generator_key(work), devices.rank == 0
    learner, seconds = run_training(
        monitor.folder / CHECKPOINT,
        lambda step: key,
        learning.checkpoint_every_s,
        learning.steps,
        train,
        monitor.after_step,
        writes=first,
    )

    # Fold the averaged weights into a plain UNet.
    learner.load_average()
    generator.finish()
    if first:
        generator.unet.save_pretrained(monitor.folder / "unet")
    devices.wait()
    return monitor.measures(learner) | {"minutes": round(seconds / 60, 2)}


def _start_game(
    work: Work, generator: TrainableGenerator, learnt: Examples, devices: AcceleratedDevices
) -> StructureGame | None:
    """Return the recipe's structure game with its trained encoder, or None for plain training."""
    structure = work.recipe.structure
    if structure.arm == "none" or structure.weight == 0:
        return None

    # The first process trains the encoder, the others read what it wrote.
    if devices.rank == 0:
        fit_structure_encoder(work, generator, learnt)
    devices.wait()
    encoder = fit_structure_encoder(work, generator, learnt)

    see = generator.generator.decode if structure.encoder == "pixels" else _as_it_is
    return StructureGame(encoder, structure, see, devices)


def _as_it_is(latents: Tensor) -> Tensor:
    return latents


def compares_with_source(recipe: GeneratorTraining, images: int) -> bool:
    """Return whether relations are compared with those that the source model predicts."""
    wanted = recipe.structure.relative_to
    return recipe.start == "base" and (wanted == "source" or (wanted == "auto" and images < FEW))


@dataclass
class Monitor:
    """Measures, draws and logs beside the steps of a training."""

    work: Work
    generator: TrainableGenerator
    network: Network
    plan: Plan
    learnt: Examples
    measured: Examples
    devices: AcceleratedDevices
    watch: Watch

    def __post_init__(self) -> None:
        self.folder = self.work.folder / "generator"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.previews = plan_previews(self.work.recipe.validation, self.measured, self.learnt)
        self.rows: list[dict[str, Any]] = []
        self._logs: Any = None

    def start(self, step: int) -> None:
        """Go on with the figures and curves of the steps up to `step`; later ones are of a run that was lost."""
        self.rows = [row for row in self._read_rows() if row["step"] <= step]
        if self._writes and self.work.logs:
            self._logs = load_curves().SummaryWriter(str(self.work.folder / "logs"), purge_step=step + 1)

    def after_step(self, learner: Trainable, loss: float) -> None:
        """Measure and draw when it is due, log the figures from time to time, and report the step."""
        assert isinstance(learner, DenoiserLearner)
        due = learner.step % self.work.recipe.validation.every == 0 or learner.step == self.plan.steps
        if due:
            self._validate(learner)
        if self._logs and (learner.step % LOGGED_EVERY == 0 or due):
            for name, value in {"loss/denoising": loss, **learner.figures}.items():
                self._logs.add_scalar(name, value, learner.step)
        if self._writes:
            self.watch(learner.step, loss)

    def measures(self, learner: DenoiserLearner) -> dict[str, Any]:
        """Return the measures for the record of the training."""
        ended = learner.game is not None and not bool(learner.game.playing)
        return {
            "validation": [{key: row[key] for key in ("step", "error")} for row in self.rows],
            "figures": {name: round(value, 6) for name, value in learner.figures.items()},
            "game_ended": ended,
        }

    @property
    def _writes(self) -> bool:
        return self.devices.rank == 0

    def _validate(self, learner: DenoiserLearner) -> None:
        """Measure the averaged weights' error, draw pictures, and end a game that has made the error worse."""
        # All processes measure, since all must agree on the game's end.
        with learner.averaged():
            error = measure_error(self.network, self.measured, self.plan, self.devices)
            pictures = self._draw() if self._writes and self.previews.prompts else None
        ended = learner.check(error)
        if not self._writes:
            return

        # The first process writes figures, curves and pictures.
        figures = {"step": learner.step, "error": round(error, 6), "game_ended": ended}
        self.rows.append(figures | {"classes": list(self.previews.classes)})
        write_whole(self.folder / FIGURES, json.dumps(self.rows, indent=1).encode())
        if self._logs:
            self._logs.add_scalar("validation/error", error, learner.step)
            self._logs.flush()
        if pictures is not None:
            (self.folder / PICTURES).mkdir(exist_ok=True)
            Image.fromarray(pictures).save(self.folder / PICTURES / name_picture(learner.step))
            if self._logs:
                self._logs.add_image("validation/pictures", pictures, learner.step, dataformats="HWC")

    def _draw(self) -> NDArray[np.uint8]:
        """Return the sheet of pictures, [H, W, 3]."""
        settings = self.work.recipe.validation
        return draw_previews(self.generator.generator.pipeline, self.previews, settings.steps, settings.guidance)

    def _read_rows(self) -> list[dict[str, Any]]:
        """Return the figures that earlier runs wrote."""
        return read_figures(self.folder)


def read_figures(folder: Path) -> list[dict[str, Any]]:
    """Return the figures of the measurements that were written to a training's folder, in order."""
    file = folder / FIGURES
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def read_measurements(work: Work) -> list[dict[str, Any]]:
    """Return the measurements of a training, each with its sheet of pictures as a PNG file's bytes."""
    folder, found = work.folder / "generator", []
    for row in read_figures(folder):
        file = folder / PICTURES / name_picture(row["step"])
        found.append({**row, "pictures": file.read_bytes() if file.is_file() else None})
    return found


def main() -> None:
    """Train in one process of several: read the job that the flow wrote, train, write the measures."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    work = Work(
        Path(job["folder"]),
        GeneratorTraining.model_validate(job["recipe"]),
        ResolvedModel.model_validate(job["base"]),
        job["images_digest"],
    )
    measures = fit_generator(work, lambda step, loss: print(f"{step} {loss}", flush=True))
    write_whole(Path(job["folder"]) / "generator" / "measures.json", json.dumps(measures).encode())


if __name__ == "__main__":
    main()
