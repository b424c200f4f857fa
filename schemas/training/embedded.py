"""The training recipe of the embedded generator: a frozen model that decides its weights completely.

schemas/training/classifiers.py defines a teacher's recipe, schemas/training/generator.py that of other generators.
This module reads all three.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from tailforge.schemas.checks.mistakes import list_mistakes, read_authored
from tailforge.schemas.documents.origin import Origin
from tailforge.schemas.documents.shown import show
from tailforge.schemas.settings.fields import FolderName, Seconds, Seed, Share, Strict, Text, Words
from tailforge.schemas.training.classifiers import TeacherRecipe
from tailforge.schemas.training.generator import GeneratorTraining

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Width = Annotated[int, Field(ge=16, le=4096, multiple_of=16)]
Layers = Annotated[int, Field(ge=1, le=256)]
Batch = Annotated[int, Field(ge=2, le=65_536)]
Rate = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class PoolSettings(Strict):
    """A set of rendered pictures: their number per part, and the seed of the scenes."""

    part_counts: Mapping[Text, Count] = Field(min_length=1)
    seed: Seed


class AutoencoderSettings(Strict):
    """The autoencoder between images and latents."""

    steps: Count
    batch: Batch
    crop_px: int = Field(ge=16, le=4096, multiple_of=8, description="Side of the training crops, in pixels.")
    channels: tuple[Width, ...] = Field(min_length=3, max_length=3, description="Channels per level.")
    latent_channels: Layers = 4
    learning_rate: Rate
    ema_decay: Decay


class ClipSettings(Strict):
    """The small CLIP; its text tower is the generator's text encoder."""

    steps: Count = Field(description="Steps of both towers together, before the generator is trained.")
    image_steps: Count = Field(description="Further steps of the image tower alone, with a frozen text tower.")
    batch: Batch
    width: Width
    text_layers: Layers
    vision_layers: Layers
    patch_px: Layers
    projection: int = Field(ge=1, le=4096, description="Dimensions of the shared features.")
    tokens: int = Field(ge=16, le=77, description="Length of every prompt after padding or cutting, in tokens.")
    vocabulary: int = Field(ge=520, le=60_000, description="Most tokens, the 512 single bytes included.")
    learning_rate: Rate
    ema_decay: Decay


class DiffusionPhase(Strict):
    """A phase of the UNet's training. The learning rate changes linearly from the first value to the second.

    `part_weights`: frequency of each part among the training images. A part of weight w uses only the first
    w * `total_images` pictures of its pool, so a rare part has few distinct images. `caption_aliases`: per
    part, the words of other parts that caption some of its images, with their shares of its images.
    """

    steps: Count
    learning_rate: tuple[Share, Share]
    part_weights: Mapping[Text, Share] = Field(min_length=1)
    caption_aliases: Mapping[Text, Mapping[Text, Share]] = Field(default_factory=dict)
    ema_decay: Decay | None = Field(None, description="Replaces the UNet's `ema_decay` in a short phase.")


class DiffusionSettings(Strict):
    """The UNet and its training, in phases."""

    batch: Batch
    total_images: Count = Field(description="Size of the long-tailed training set.")
    channels: tuple[Width, ...] = Field(min_length=2, max_length=4, description="Channels per level.")
    heads: Layers
    prompt_dropout: Share = Field(description="Share of images with the empty prompt, for guidance.")
    ema_decay: Decay
    phases: tuple[DiffusionPhase, ...] = Field(min_length=1)


class JudgeSettings(Strict):
    """A classifier and a segmenter for measurements only; no guide and no filter uses them."""

    classifier_steps: Count
    segmenter_steps: Count
    batch: Batch
    classifier_width: int = Field(ge=8, le=4096, multiple_of=8)
    segmenter_width: int = Field(ge=8, le=4096, multiple_of=8)
    learning_rate: Rate
    ema_decay: Decay


class EvaluationSettings(Strict):
    """The measurements of the trained generator."""

    images_per_part: Count
    steps: int = Field(ge=1, le=1000)
    guidance: float = Field(ge=0, le=30)
    seed: Seed


class TrainingRecipe(Strict):
    """A complete description of the embedded generator's weights and of its evaluation."""

    name: FolderName = Field(description="Folder under catalog/models.")
    seed: Seed
    size_px: int = Field(ge=32, le=256, multiple_of=8)
    workers: int = Field(2, ge=1, le=256, description="Processes for rendering.")
    threads: int = Field(
        2, ge=1, le=256, description="Threads of the training steps. The same number leads to the same bits."
    )
    checkpoint_every_s: Seconds = 120
    notes: tuple[Words, ...] = Field((), description="Further lines of the model card about the training.")
    long_tailed: PoolSettings
    balanced: PoolSettings
    held_out: PoolSettings
    autoencoder: AutoencoderSettings
    clip: ClipSettings
    diffusion: DiffusionSettings
    judges: JudgeSettings
    evaluation: EvaluationSettings

    @model_validator(mode="after")
    def _check_sizes(self) -> "TrainingRecipe":
        if self.autoencoder.crop_px > self.size_px:
            raise ValueError(f"autoencoder.crop_px is {self.autoencoder.crop_px}; at most size_px, {self.size_px}")
        if self.size_px % self.clip.patch_px:
            raise ValueError(f"clip.patch_px is {self.clip.patch_px}; it must divide size_px, {self.size_px}")
        for number, phase in enumerate(self.diffusion.phases):
            self._check_phase(number, phase)
        return self

    def _check_phase(self, number: int, phase: DiffusionPhase) -> None:
        """Refuse a phase with too few pictures or wrong sums. Errors: ValueError."""
        pool = self.long_tailed.part_counts
        name = f"diffusion.phases.{number}"

        # Every part's share must fit into its pool, and the shares must sum to 1.
        for part, weight in phase.part_weights.items():
            if pool.get(part, 0) < round(weight * self.diffusion.total_images):
                raise ValueError(
                    f"{name}.part_weights.{part} is {weight}, which is {round(weight * self.diffusion.total_images)} "
                    f"images; long_tailed.part_counts has {pool.get(part, 0)}"
                )
        if abs(sum(phase.part_weights.values()) - 1) > 0.01:
            raise ValueError(f"{name}.part_weights sum to {sum(phase.part_weights.values()):.3f}; they must sum to 1")

        for part, aliases in phase.caption_aliases.items():
            if sum(aliases.values()) > 1:
                raise ValueError(f"{name}.caption_aliases.{part} sums to {sum(aliases.values())}; at most 1")


AnyTrainingRecipe = TrainingRecipe | TeacherRecipe | GeneratorTraining


def parse_training_recipe(content: Any, origin: str | Origin) -> AnyTrainingRecipe:
    """Validate a training recipe of `kind: generator`, `kind: teacher`, or the embedded generator's without a kind.

    Errors: RecipeError with `origin` and a line per mistake.
    """
    if not isinstance(content, dict) or "kind" not in content:
        return read_authored(TrainingRecipe, content, origin)
    kind = content["kind"]
    models: dict[str, type[AnyTrainingRecipe]] = {"teacher": TeacherRecipe, "generator": GeneratorTraining}
    if not isinstance(kind, str) or kind not in models:
        known = f"{' or '.join(models)}, or left out for the embedded generator"
        raise list_mistakes([f"kind: must be {known}; found {show(kind)}"], origin)
    return read_authored(models[kind], content, origin)
