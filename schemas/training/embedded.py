"""The training recipe of the embedded generator: one frozen model of everything that decides its weights.

A teacher's recipe is in schemas/training/classifiers.py, that of other generators in schemas/training/generator.py.
All are read here.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from tailforge.schemas.checks.mistakes import read_authored
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
    """A set of rendered pictures: how many of each part, and the seed of the scenes."""

    part_counts: Mapping[Text, Count] = Field(min_length=1)
    seed: Seed


class AutoencoderSettings(Strict):
    steps: Count
    batch: Batch
    crop_px: int = Field(ge=16, le=4096, multiple_of=8)
    channels: tuple[Width, ...] = Field(min_length=3, max_length=3)
    latent_channels: Layers = 4
    learning_rate: Rate
    ema_decay: Decay


class ClipSettings(Strict):
    """The small CLIP; its text tower is the generator's text encoder."""

    steps: Count = Field(description="Steps of both towers together, before the generator is trained.")
    image_steps: Count = Field(description="Further steps of the image tower alone, beside a finished text tower.")
    batch: Batch
    width: Width
    text_layers: Layers
    vision_layers: Layers
    patch_px: Layers
    projection: int = Field(ge=1, le=4096)
    tokens: int = Field(ge=16, le=77, description="Length that every prompt is padded or cut to.")
    vocabulary: int = Field(ge=520, le=60_000, description="Tokens at most, the 512 single bytes included.")
    learning_rate: Rate
    ema_decay: Decay


class DiffusionPhase(Strict):
    """A stretch of the UNet's training; the learning rate goes linearly from the first value to the second.

    `part_weights` is the frequency of each part among the training images, and also limits the distinct ones: a part of
    weight w is drawn from the first w * `total_images` pictures of its pool, so a rare part stays rare.
    `caption_aliases` maps a part to the words of other parts that some of its images are captioned with, and to the
    share of its images that are.
    """

    steps: Count
    learning_rate: tuple[Share, Share]
    part_weights: Mapping[Text, Share] = Field(min_length=1)
    caption_aliases: Mapping[Text, Mapping[Text, Share]] = Field(default_factory=dict)
    ema_decay: Decay | None = Field(None, description="In place of the UNet's `ema_decay`, for a short phase.")


class DiffusionSettings(Strict):
    batch: Batch
    total_images: Count = Field(description="Size of the long-tailed data set that the phases draw from.")
    channels: tuple[Width, ...] = Field(min_length=2, max_length=4)
    heads: Layers
    prompt_dropout: Share = Field(description="Share of images trained with the empty prompt, for guidance.")
    ema_decay: Decay
    phases: tuple[DiffusionPhase, ...] = Field(min_length=1)


class JudgeSettings(Strict):
    """A classifier and a segmenter that only measure; neither is used in a guide or a filter."""

    classifier_steps: Count
    segmenter_steps: Count
    batch: Batch
    classifier_width: int = Field(ge=8, le=4096, multiple_of=8)
    segmenter_width: int = Field(ge=8, le=4096, multiple_of=8)
    learning_rate: Rate
    ema_decay: Decay


class EvaluationSettings(Strict):
    images_per_part: Count
    steps: int = Field(ge=1, le=1000)
    guidance: float = Field(ge=0, le=30)
    seed: Seed


class TrainingRecipe(Strict):
    """Everything that decides the weights of the embedded generator, and how it is measured."""

    name: FolderName = Field(description="Folder under catalog/models.")
    seed: Seed
    size_px: int = Field(ge=32, le=256, multiple_of=8)
    workers: int = Field(2, ge=1, le=256, description="Processes that render.")
    threads: int = Field(2, ge=1, le=256, description="Threads of the training steps; the same number, the same bits.")
    checkpoint_every_s: Seconds = 120
    notes: tuple[Words, ...] = Field((), description="What the model card should also say about the training.")
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
        pool = self.long_tailed.part_counts
        name = f"diffusion.phases.{number}"
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


def parse_training_recipe(content: Any, origin: str) -> AnyTrainingRecipe:
    """Check a training recipe: `kind: generator`, `kind: teacher`, or without a kind the embedded generator's.

    Errors: RecipeError naming `origin` and the field.
    """
    kind = str(content.get("kind")) if isinstance(content, dict) else None
    models: dict[Any, type[AnyTrainingRecipe]] = {"teacher": TeacherRecipe, "generator": GeneratorTraining}
    model = models.get(kind, TrainingRecipe)
    return read_authored(model, content, origin)
