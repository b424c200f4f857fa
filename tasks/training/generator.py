"""The training of a generator's UNet in its work folder: checkpoints, logs, pictures on the way, and the final weights.

Runs alone, or in every process that `accelerate launch -m tailforge.tasks.training.generator JOB` starts; the first
process writes the files.
"""

import json
import sys
from collections.abc import Callable
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
from tailforge.tasks.artifacts.contract import digest
from tailforge.tasks.methods.generator_training.batches import EpochSampler, Examples
from tailforge.tasks.methods.generator_training.denoising import Network, measure_error
from tailforge.tasks.methods.generator_training.plan import Plan, plan_learning
from tailforge.tasks.methods.generator_training.structure_encoder import StructureEncoder
from tailforge.tasks.methods.generator_training.structure_game import StructureGame
from tailforge.tasks.methods.generator_training.train import VERSION, DenoiserLearner, train_denoiser
from tailforge.tasks.methods.training_loop import Trainable
from tailforge.tasks.models.checkpoints import Checkpointer, load_checkpoint, write_whole
from tailforge.tasks.models.devices import AcceleratedDevices
from tailforge.tasks.models.pipeline_folders import draw_images
from tailforge.tasks.models.trainable_generator import TrainableGenerator
from tailforge.tasks.training.generator_stages import Work, fit_structure_encoder, open_examples
from tailforge.tasks.training.runs import Watch

LOGGED_EVERY = 10  # steps
COLUMNS = 8
FIGURES = "validation.json"


def load_curves() -> Any:
    """The module that writes the curves of a training. Errors: MissingExtraError."""
    return import_extra("torch.utils.tensorboard", "the curves of a training")


def generator_key(work: Work) -> str:
    """Of everything that decides the weights."""
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
    """Train to the end, from the last checkpoint on; the averaged UNet lies in the folder's `unet`. Returns measures.

    Errors: TrainingError; the last checkpoint stays whatever happens.
    """
    recipe = work.recipe
    if recipe.learning.threads:
        torch.set_num_threads(recipe.learning.threads)
    devices = AcceleratedDevices(recipe.learning.precision)
    generator = TrainableGenerator(work.base, devices.device)
    learnt, measured = open_examples(work)
    game = None
    if recipe.structure.arm != "none" and recipe.structure.weight != 0:
        encoder = _fit_encoder_once(work, generator, learnt, devices)
        see = generator.generator.decode if recipe.structure.encoder == "pixels" else _as_it_is
        game = StructureGame(encoder, recipe.structure, see, devices)
    network = generator.prepare(recipe, keeps_source=game is not None and compares_with_source(recipe, len(learnt)))
    learning = recipe.learning
    plan = plan_learning(learning, recipe.structure.play_every)
    run = Run(work, generator, network, plan, measured, devices, watch)
    saved = load_checkpoint(run.checkpoint, lambda step: run.key)
    sampler = EpochSampler(learnt, learning.batch, learning.prompt_dropout, learning.seed)
    learner = train_denoiser(network, sampler, plan, game, devices, saved, run.observe(saved))
    learner.load_average()
    generator.finish()
    if devices.rank == 0:
        generator.unet.save_pretrained(work.folder / "generator" / "unet")
    devices.wait()
    return run.measures(learner)


def _fit_encoder_once(
    work: Work, generator: TrainableGenerator, learnt: Examples, devices: AcceleratedDevices
) -> StructureEncoder:
    """The first process trains it, the others read what it wrote."""
    if devices.rank == 0:
        fit_structure_encoder(work, generator, learnt)
    devices.wait()
    return fit_structure_encoder(work, generator, learnt)


def _as_it_is(latents: Tensor) -> Tensor:
    return latents


def compares_with_source(recipe: GeneratorTraining, images: int) -> bool:
    """Whether relations are the source model's."""
    wanted = recipe.structure.relative_to
    return recipe.start == "base" and (wanted == "source" or (wanted == "auto" and images < FEW))


@dataclass
class Run:
    """What goes on beside the steps of a training."""

    work: Work
    generator: TrainableGenerator
    network: Network
    plan: Plan
    measured: Examples
    devices: AcceleratedDevices
    watch: Watch

    def __post_init__(self) -> None:
        self.folder = self.work.folder / "generator"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self.folder / "checkpoint.safetensors"
        self.key = generator_key(self.work)
        self.rows: list[dict[str, Any]] = []

    def observe(self, saved: Any) -> Callable[[Trainable, float], None]:
        """What is done after every step."""
        start = int(saved["step"]) if saved else 0
        self.rows = [row for row in self._read_rows() if row["step"] <= start]
        learning = self.work.recipe.learning
        self.checkpointer = Checkpointer(self.checkpoint, lambda step: self.key, learning.checkpoint_every_s)
        curves = load_curves() if self._writes else None
        logs = curves.SummaryWriter(str(self.work.folder / "logs"), purge_step=start + 1) if curves else None

        def after_step(learner: Trainable, loss: float) -> None:
            assert isinstance(learner, DenoiserLearner)
            due = learner.step % self.work.recipe.validation.every == 0 or learner.step == learning.steps
            if due:
                self._validate(learner, logs)
            if logs and (learner.step % LOGGED_EVERY == 0 or due):
                for name, value in {"loss/denoising": loss, **learner.figures}.items():
                    logs.add_scalar(name, value, learner.step)
            if self._writes:
                self.watch(learner.step, loss)
                self.checkpointer.save(learner) if learner.step == learning.steps else self.checkpointer(learner)

        return after_step

    def measures(self, learner: DenoiserLearner) -> dict[str, Any]:
        """For the record of the training."""
        ended = learner.game is not None and not bool(learner.game.playing)
        return {
            "validation": [{key: row[key] for key in ("step", "error")} for row in self.rows],
            "figures": {name: round(value, 6) for name, value in learner.figures.items()},
            "game_ended": ended,
            "minutes": round(self.checkpointer.seconds / 60, 2),
        }

    @property
    def _writes(self) -> bool:
        return self.devices.rank == 0

    def _validate(self, learner: DenoiserLearner, logs: Any) -> None:
        with learner.averaged():
            error = measure_error(self.network, self.measured, self.plan, self.devices)
            pictures = self._draw() if self._writes else None
        ended = learner.check(error)
        if not self._writes:
            return
        self.rows.append({"step": learner.step, "error": round(error, 6), "game_ended": ended})
        write_whole(self.folder / FIGURES, json.dumps(self.rows, indent=1).encode())
        if logs:
            logs.add_scalar("validation/error", error, learner.step)
            logs.flush()
        if pictures is not None:
            (self.folder / "pictures").mkdir(exist_ok=True)
            Image.fromarray(pictures).save(self.folder / "pictures" / f"step-{learner.step:08d}.png")
            if logs:
                logs.add_image("validation/pictures", pictures, learner.step, dataformats="HWC")

    def _draw(self) -> NDArray[np.uint8] | None:
        """A sheet of pictures, row by row."""
        settings = self.work.recipe.validation
        if not settings.images:
            return None
        captions = list(settings.prompts) or list(dict.fromkeys(self.measured.take(slice(0, settings.images))[1]))
        prompts = [captions[number % len(captions)] for number in range(settings.images)]
        seeds = list(range(settings.images))
        pipeline = self.generator.generator.pipeline
        pipeline.set_progress_bar_config(disable=True)
        drawn = draw_images(pipeline, prompts, seeds, settings.steps, settings.guidance)
        columns, (height, width) = min(COLUMNS, len(drawn)), drawn.shape[1:3]
        whole = np.concatenate([drawn, np.zeros((-len(drawn) % columns, height, width, 3), np.uint8)])
        sheet = whole.reshape(-1, columns, height, width, 3).swapaxes(1, 2)
        return sheet.reshape(-1, columns * width, 3)

    def _read_rows(self) -> list[dict[str, Any]]:
        file = self.folder / FIGURES
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def main() -> None:
    """One process of several: read the job that the flow wrote, train, write the measures."""
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
