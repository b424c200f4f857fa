"""Settings of training or adapting a text-to-image generator's UNet: `kind: generator` of a training recipe.

Every default is a choice of ours unless its description names a source; docs/how-to/training.md says which are whose.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tailforge.schemas.documents.shown import shorten, show, show_key
from tailforge.schemas.settings.fields import (
    Fit,
    FolderName,
    ModelSource,
    Place,
    Positive,
    Seconds,
    Seed,
    Share,
    Strict,
    Text,
    Weight,
)

Arm = Literal["none", "instance", "frozen", "sadm", "random_encoder"]
Weighting = Literal["epsilon", "velocity", "min_snr", "min_snr_plus_one"]
CLASS = "{class}"  # in a caption's template
FEW = 200  # images; below, relations are taken from the source model and not from the images


class ImageSource(Strict):
    """Captioned images: a published version, a folder, or a Parquet file."""

    dataset: Text | None = Field(None, description="Published version: name, or name@version. Needs `store`.")
    store: Place | None = Field(
        None, description="Store of the version: a folder, or an address such as s3://bucket/folder."
    )
    split: Literal["train", "validation", "test"] = Field("train", description="Of the version.")
    where: tuple[tuple[Text, Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"], Any], ...] = Field(
        (), description="Rows of the version's manifest that are used: [column, operator, value], all must hold."
    )
    folder: Place | None = Field(
        None,
        description="Folder of images with captions, relative to the recipe: a file of the same name with suffix .txt "
        "beside each, or metadata.jsonl with file_name and text. Or a Parquet file with columns image and caption.",
    )
    caption: Text | None = Field(None, description="Caption of images that have none of their own.")
    class_caption: Text | None = Field(
        None,
        description=f"Caption of images that come with a class and no caption; {CLASS} stands for its name. They are a "
        f"folder of one folder a class, or a Parquet file with a column label. By default 'a photo of a {CLASS}'.",
    )
    fit: Fit = Field(
        "exact",
        description="exact: images of another size than the generator's are an error. crop: the shorter side is scaled "
        "to fit (also up), the middle kept.",
    )
    images: int | None = Field(
        None, ge=1, le=1_000_000_000, description="So many of them by lot, by the training's seed; default all."
    )

    @field_validator("where")
    @classmethod
    def _lists_after_in(cls, where: Sequence[tuple[str, str, Any]]) -> Sequence[tuple[str, str, Any]]:
        for column, operator, value in where:
            if (operator in ("in", "not in")) != isinstance(value, (list, tuple)):
                raise ValueError(
                    f"{show_key(column)} {operator} {shorten(repr(value))}: `in` and `not in` take a list of values, "
                    "others a single one"
                )
        return where

    @field_validator("class_caption")
    @classmethod
    def _names_the_class(cls, template: str | None) -> str | None:
        if template is not None and CLASS not in template:
            raise ValueError(f"{show(template)} does not hold {CLASS}, so all classes would have one caption")
        return template

    @model_validator(mode="after")
    def _one_caption(self) -> "ImageSource":
        if self.caption is not None and self.class_caption is not None:
            raise ValueError("give caption, the same for all images, or class_caption, not both")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> "ImageSource":
        if (self.dataset is None) == (self.folder is None):
            raise ValueError("give either dataset (with store) or folder")
        if self.dataset is not None and self.store is None:
            raise ValueError("store is missing: the folder or address that the dataset was published to")
        if self.where and self.dataset is None:
            raise ValueError("where reads a published version's manifest; a folder has none")
        return self


class LoraSettings(Strict):
    """Low-rank adapters on the attention projections (arXiv 2106.09685); folded into the weights when saved."""

    rank: int = Field(8, ge=1, le=1024)
    alpha: Positive = Field(8, description="The adapters' output is scaled by alpha / rank.")
    targets: tuple[Text, ...] = Field(
        ("to_k", "to_q", "to_v", "to_out.0"),
        min_length=1,
        description="Ends of the names of layers that get one; the default is that of diffusers' training script.",
    )


class StructureSettings(Strict):
    """What joins the denoising loss: how batches of clean and of predicted images relate, in an encoder's space.

    SADM (arXiv 2402.17563) is the source of the game; measure, weights, schedule and encoder are choices of ours.
    """

    arm: Arm = Field(
        "none",
        description="none: the denoising loss alone. instance: each image's features, frozen encoder. frozen: "
        "relations, frozen encoder. sadm: relations, the encoder's last stage plays against. random_encoder: as sadm "
        "with an encoder that never learnt.",
    )
    relative_to: Literal["auto", "images", "source"] = Field(
        "auto",
        description="Whose relations are kept: the images', or those that the source model predicts from the same "
        f"noisy images. auto: the source's below {FEW} images, where those of the images would be learnt by heart.",
    )
    mode: Literal["single", "alternate"] = Field(
        "single", description="single: both players step from one backward pass. alternate: one after the other."
    )
    group: int = Field(
        16,
        ge=4,
        le=4096,
        description="Images that are compared with one another; of fewer, relations are mostly noise.",
    )
    play_every: int = Field(2, ge=1, le=1000, description="Relations are compared in one of so many steps.")
    share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="The weight is set so that the structure's gradient is this share of the denoising loss's, on the "
        "network's last layer.",
    )
    weight: Weight | None = Field(None, description="A fixed weight in place of `share`; 0 is plain training.")
    largest_weight: float = Field(1.0, gt=0, le=1e12)
    warm_up: Share = Field(0.15, description="Share of the steps without it.")
    rate: float = Field(1e-4, gt=0, le=1, description="Learning rate of the encoder that plays.")
    anchor: Weight = Field(1e-3, description="Weight of the squared distance from the encoder's first weights.")
    opponent_every: int = Field(1, ge=1, le=1000, description="Moves of the generator for one of the encoder.")
    pause_ratio: Positive = Field(
        10,
        description="The encoder waits while images and predictions differ by so many times what two draws of images "
        "do.",
    )
    tolerance: Positive = Field(
        0.1, description="The game ends if the denoising error of the averaged weights rises by this share."
    )
    encoder: Literal["latents", "pixels"] = Field(
        "latents", description="What the encoder sees; pixels cost a pass of the decoder in every step."
    )
    encoder_steps: int = Field(
        300, ge=0, le=1_000_000, description="Steps in which it learns to tell images apart, first."
    )
    encoder_width: int = Field(32, ge=8, le=1024, multiple_of=8)


class ValidationSettings(Strict):
    """What is measured and drawn while it learns, with the averaged weights."""

    every: int = Field(200, ge=1, le=100_000_000, description="Steps between measurements.")
    held_out: Share = Field(0.1, description="Share of the images that is measured on and not learnt; none below 50.")
    prompts: tuple[Text, ...] = Field((), description="Drawn each time; by default captions of the images.")
    images: int = Field(8, ge=0, le=256, description="Pictures drawn each time.")
    steps: int = Field(16, ge=1, le=1000)
    guidance: float = Field(3.0, ge=0, le=50)


class LearningSettings(Strict):
    """The optimiser and the denoising loss."""

    steps: int = Field(ge=1, le=100_000_000)
    batch: int = Field(32, ge=1, le=1_000_000, description="Images a step, over all devices and passes.")
    passes: int = Field(1, ge=1, le=10_000, description="Forward passes that a device splits its images into.")
    shared_noise: int = Field(
        1,
        ge=1,
        le=4096,
        description="Images that share a noise level, in steps that compare relations; 1: each has its own, which "
        "learns faster from small batches. Divides the batch.",
    )
    learning_rate: float = Field(1e-4, gt=0, le=1, description="The highest.")
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up: Share = Field(0.05, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, le=1)
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Of the averaged weights, which are saved.")
    prompt_dropout: Share = Field(0.1, description="Share of the images learnt with the empty prompt, for guidance.")
    weighting: Weighting = Field(
        "min_snr",
        description="Of noise levels. epsilon, velocity: the squared error of the noise or of the velocity. min_snr: "
        "the error of the clean image by min(SNR, snr_limit) (arXiv 2303.09556). min_snr_plus_one: by min(SNR + 1, "
        "snr_limit), which also counts pure noise.",
    )
    snr_limit: Positive = 5.0
    flip: bool = Field(False, description="Also learn the mirror image of each.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="Of forward passes; weights stay float32.")
    seed: Seed = 0
    threads: int | None = Field(None, ge=1, le=256, description="Of a CPU; the same number, the same bits.")
    checkpoint_every_s: Seconds = 60.0


class GeneratorTraining(Strict):
    """Train a generator's UNet from scratch, or adapt it, to captioned images."""

    kind: Literal["generator"]
    name: FolderName = Field(description="Folder of the model.")
    base: ModelSource = Field(description="Pipeline to start from; its text encoder and autoencoder stay as they are.")
    start: Literal["base", "scratch"] = Field(
        "base", description="base: the UNet goes on from the base's weights. scratch: of the same shape, untrained."
    )
    weights: Literal["all", "lora", "bias_scale"] = Field(
        "all",
        description="What learns. all: every weight of the UNet. lora: adapters. bias_scale: biases, affine weights of "
        "norms and a scale for every output of attention and feed-forward layers, after DiffFit (arXiv 2304.06648).",
    )
    lora: LoraSettings = LoraSettings()
    images: ImageSource
    learning: LearningSettings
    structure: StructureSettings = StructureSettings()
    validation: ValidationSettings = ValidationSettings()

    @field_validator("base", mode="before")
    @classmethod
    def _base_by_name(cls, base: object) -> object:
        return {"model": base} if isinstance(base, str) else base

    @model_validator(mode="after")
    def _parts_fit(self) -> "GeneratorTraining":
        learning = self.learning
        if learning.batch % (learning.shared_noise * learning.passes):
            raise ValueError(
                f"learning.batch is {learning.batch}; it must be a multiple of learning.shared_noise x "
                f"learning.passes, {learning.shared_noise * learning.passes}"
            )
        size, group = learning.batch // learning.passes, self.structure.group
        splits = size % group == 0 and (learning.shared_noise == 1 or learning.shared_noise % group == 0)
        if self.structure.arm != "none" and not splits:
            raise ValueError(
                f"structure.group is {group}; it must divide learning.batch / learning.passes, {size}, and, where "
                f"images share noise levels, learning.shared_noise, {learning.shared_noise}"
            )
        if self.start == "scratch" and self.weights != "all":
            raise ValueError(f"start: scratch trains every weight; weights is {self.weights!r}, leave it out")
        if self.start == "scratch" and self.structure.relative_to == "source":
            raise ValueError("structure.relative_to: source needs a trained source; start is scratch")
        return self


def filters_of(source: ImageSource) -> Sequence[tuple[str, str, Any]]:
    """`where` as pyarrow takes it: lists in place of tuples."""
    return [
        (column, operator, list(value) if isinstance(value, tuple) else value)
        for column, operator, value in source.where
    ]
