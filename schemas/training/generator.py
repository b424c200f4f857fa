"""Settings for training or adapting a text-to-image generator's UNet: `kind: generator` of a training recipe.

Tailforge chose all defaults without a source in their description; docs/how-to/training.md lists the sources.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tailforge.schemas.documents.shown import shorten, show, show_key
from tailforge.schemas.options import FIT, ROOT, Fit
from tailforge.schemas.settings.fields import (
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
from tailforge.schemas.settings.licences import PHOTOGRAPHS_LICENCE, UNKNOWN, PhotographsLicence

Arm = Literal["none", "instance", "frozen", "sadm", "random_encoder"]
Mirror = Literal["none", "columns", "rows", "both"]
Weighting = Literal["epsilon", "velocity", "min_snr", "min_snr_plus_one"]
CLASS = "{class}"  # in a caption's template
CLASS_ROWS = 32  # most classes with pictures in a measurement
FEW = 200  # fewest images whose own relations the structure loss compares with; see `relative_to`


class ImageSource(Strict):
    """Captioned images: a published version, or any source that docs/how-to/images.md lists."""

    dataset: Text | None = Field(None, description="Published version: name, or name@version. Needs `store`.")
    store: Place | None = Field(
        None, description="Store of the version: a folder, or an address such as s3://bucket/folder."
    )
    split: Literal["train", "validation", "test"] = Field(
        "train", description="Split that is learnt, of images that have splits."
    )
    where: tuple[tuple[Text, Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"], Any], ...] = Field(
        (), description="Conditions on rows of the version's manifest: [column, operator, value]. All must hold."
    )
    folder: Place | None = Field(
        None,
        description="Images with captions, relative to the recipe: a folder, a table, a COCO file or tars "
        "(docs/how-to/images.md). In a folder, captions are in a file of the image's name with suffix .txt, or in "
        "metadata.jsonl with file_name and text.",
    )
    root: Place | None = Field(None, description=ROOT)
    caption: Text | None = Field(None, description="Caption of images without their own.")
    class_caption: Text | None = Field(
        None,
        description=f"Caption of images with a class and no caption; {CLASS} stands for the class's name. Such images "
        f"come from class folders, or have a label. Default: 'a photo of a {CLASS}'.",
    )
    fit: Fit = Field(
        "exact",
        description=FIT,
    )
    license: PhotographsLicence = Field(
        UNKNOWN, description=f"{PHOTOGRAPHS_LICENCE} By default that of the published version, for `dataset`."
    )
    images: int | None = Field(
        None, ge=1, le=1_000_000_000, description="Random subset of this size, by the training's seed; default: all."
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


class PixelNetwork(Strict):
    """A new generator for small photographs. Its latents are their pixels, so that no autoencoder loses detail."""

    height: int = Field(ge=16, le=128, multiple_of=8, description="Rows of the photographs, in pixels.")
    width: int = Field(ge=16, le=128, multiple_of=8, description="Columns of the photographs, in pixels.")
    grey: bool = Field(False, description="Whether the photographs are grey: one channel instead of three.")
    channels: tuple[Annotated[int, Field(ge=16, le=1024, multiple_of=16)], ...] = Field(
        (32, 64, 64),
        min_length=1,
        max_length=6,
        description="Channels per level of the UNet. Each further level has half the rows and columns.",
    )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @model_validator(mode="after")
    def _levels_fit(self) -> "PixelNetwork":
        halved = 2 ** (len(self.channels) - 1)
        if self.height % halved or self.width % halved:
            raise ValueError(
                f"channels has {len(self.channels)} levels, which divide both sides by {halved}; "
                f"{self.height} x {self.width} cannot be divided, give fewer levels or another size"
            )
        return self


class LoraSettings(Strict):
    """Low-rank adapters on the attention projections (arXiv 2106.09685). Saving folds them into the weights."""

    rank: int = Field(8, ge=1, le=1024, description="Rank of an adapter.")
    alpha: Positive = Field(8, description="Scales the adapters' output by alpha / rank.")
    targets: tuple[Text, ...] = Field(
        ("to_k", "to_q", "to_v", "to_out.0"),
        min_length=1,
        description="Endings of the names of adapted layers; the default is that of diffusers' training script.",
    )


class StructureSettings(Strict):
    """A structure loss in addition to the denoising loss: relations among clean images against predicted images.

    An encoder's features define the relations. The game follows SADM (arXiv 2402.17563); Tailforge chose measure,
    weights, schedule and encoder.
    """

    arm: Arm = Field(
        "none",
        description="none: the denoising loss alone. instance: features of each image, with a frozen encoder. frozen: "
        "relations, with a frozen encoder. sadm: relations, and the encoder's last stage trains against the generator. "
        "random_encoder: as sadm, with an untrained encoder.",
    )
    relative_to: Literal["auto", "images", "source"] = Field(
        "auto",
        description="Target of the relations. images: the clean images. source: the source model's predictions for the "
        f"same noisy images. auto: source below {FEW} images, whose relations the generator would memorise.",
    )
    mode: Literal["single", "alternate"] = Field(
        "single",
        description="single: one backward pass updates generator and encoder. alternate: they take turns.",
    )
    group: int = Field(
        16,
        ge=4,
        le=4096,
        description="Images compared with one another. Relations of fewer are mostly noise.",
    )
    play_every: int = Field(2, ge=1, le=1000, description="Apply the structure loss in one of this many steps.")
    share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Size of the structure loss's gradient as a share of the denoising loss's, on the network's last "
        "layer. It sets the weight.",
    )
    weight: Weight | None = Field(None, description="A fixed weight in place of `share`; 0 is plain training.")
    largest_weight: float = Field(1.0, gt=0, le=1e12, description="Upper bound of the weight that `share` sets.")
    warm_up: Share = Field(0.15, description="Share of the steps, at the start, without the structure loss.")
    rate: float = Field(1e-4, gt=0, le=1, description="Learning rate of the encoder in the game.")
    anchor: Weight = Field(1e-3, description="Weight of the squared distance from the encoder's first weights.")
    opponent_every: int = Field(1, ge=1, le=1000, description="Generator updates per encoder update.")
    pause_ratio: Positive = Field(
        10,
        description="The encoder pauses while images and predictions differ by more than this multiple of the "
        "difference between two samples of images.",
    )
    tolerance: Positive = Field(
        0.1, description="The game ends if the denoising error of the averaged weights rises by this share."
    )
    encoder: Literal["latents", "pixels"] = Field(
        "latents", description="Input of the encoder. pixels needs a pass of the decoder in every step."
    )
    encoder_steps: int = Field(
        300, ge=0, le=1_000_000, description="Steps of the encoder's own training, before the generator's."
    )
    encoder_width: int = Field(32, ge=8, le=1024, multiple_of=8, description="Channels of the encoder.")


class ValidationSettings(Strict):
    """Measurements and pictures during training, with the averaged weights."""

    every: int = Field(200, ge=1, le=100_000_000, description="Steps between measurements.")
    held_out: Share = Field(0.1, description="Share of the images for measurements, not for training; none below 50.")
    prompts: tuple[Text, ...] = Field((), description="Prompts of the pictures; by default captions of the images.")
    images: int = Field(
        8, ge=0, le=256, description="Pictures per measurement, if the images have no classes or `prompts` are named."
    )
    per_class: int = Field(
        4,
        ge=0,
        le=16,
        description=f"Pictures per class, if the images have classes; of more than {CLASS_ROWS} classes the rarest.",
    )
    steps: int = Field(16, ge=1, le=1000, description="Denoising steps of a picture.")
    guidance: float = Field(3.0, ge=0, le=50, description="Scale of classifier-free guidance.")


class LearningSettings(Strict):
    """The optimiser and the denoising loss."""

    steps: int = Field(ge=1, le=100_000_000, description="Optimiser steps.")
    batch: int = Field(32, ge=1, le=1_000_000, description="Images per step, over all devices and passes.")
    passes: int = Field(1, ge=1, le=10_000, description="Forward passes per step and device.")
    shared_noise: int = Field(
        1,
        ge=1,
        le=4096,
        description="Images with the same noise level, in steps with the structure loss; divides the batch. 1: a level "
        "per image, which learns faster from small batches.",
    )
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Highest learning rate.")
    schedule: Literal["constant", "cosine"] = Field("constant", description="Learning rate after the warm-up.")
    warm_up: Share = Field(0.05, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Weight decay of AdamW.")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Decay of the averaged weights, which are saved.")
    prompt_dropout: Share = Field(0.1, description="Share of the images with the empty prompt, for guidance.")
    weighting: Weighting = Field(
        "min_snr",
        description="Weights of noise levels. epsilon, velocity: the squared error of the noise or of the velocity. "
        "min_snr: the error of the clean image times min(SNR, snr_limit) (arXiv 2303.09556). min_snr_plus_one: times "
        "min(SNR + 1, snr_limit), which also counts pure noise.",
    )
    snr_limit: Positive = Field(5.0, description="Largest weight of a noise level.")
    balance: Literal["none", "root", "class"] = Field(
        "none",
        description="class: all classes are learnt equally often, however many images they have. root: a class as "
        "often as the square root of its images. Images without a class count as one class. none: every image is "
        "learnt equally often.",
    )
    flip: bool = Field(False, description="Also train on images mirrored left and right.")
    flip_vertical: bool = Field(False, description="Also train on images mirrored top and bottom.")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Precision of forward passes; weights stay float32."
    )
    seed: Seed = Field(0, description="Seed of weights, order and noise.")
    threads: int | None = Field(
        None, ge=1, le=256, description="Threads of a CPU. The same number leads to the same bits."
    )
    checkpoint_every_s: Seconds = Field(60.0, description="Seconds between checkpoints.")

    @property
    def mirrors(self) -> tuple[Mirror, ...]:
        """How the images are mirrored that are learnt: each image comes once per entry."""
        columns: tuple[Mirror, ...] = ("none", "columns") if self.flip else ("none",)
        rows: tuple[Mirror, ...] = ("rows", "both") if self.flip else ("rows",)
        return columns + rows if self.flip_vertical else columns


class Adaptation(Strict):
    """How a generator's UNet learns from captioned images."""

    start: Literal["base", "scratch"] = Field(
        "base",
        description="base: the UNet starts from the base's weights. scratch: it has the same shape and random weights.",
    )
    weights: Literal["all", "lora", "bias_scale"] = Field(
        "all",
        description="Trained weights. all: every weight of the UNet. lora: adapters. bias_scale: biases, affine "
        "weights of norms and a scale per output of attention and feed-forward layers, after DiffFit (arXiv "
        "2304.06648).",
    )
    lora: LoraSettings = Field(LoraSettings(), description="Adapters, for weights lora.")
    images: ImageSource = Field(description="Captioned images.")
    learning: LearningSettings = Field(description="Optimiser and denoising loss.")
    structure: StructureSettings = Field(StructureSettings(), description="Structure loss.")
    validation: ValidationSettings = Field(ValidationSettings(), description="Measurements during training.")

    @model_validator(mode="after")
    def _parts_fit(self) -> "Adaptation":
        learning = self.learning
        if learning.batch % (learning.shared_noise * learning.passes):
            raise ValueError(
                f"learning.batch is {learning.batch}; it must be a multiple of learning.shared_noise x "
                f"learning.passes, {learning.shared_noise * learning.passes}"
            )

        # Groups must fit into a pass and share one noise level.
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


class Beginning(Strict):
    """What a training starts from: a pipeline, or a new network."""

    base: ModelSource | None = Field(
        None, description="Pipeline to start from. Its text encoder and autoencoder stay unchanged."
    )
    network: PixelNetwork | None = Field(
        None, description="A new generator for small photographs, in place of `base`, trained from scratch."
    )

    @field_validator("base", mode="before", json_schema_input_type=ModelSource | Place | None)
    @classmethod
    def _base_by_name(cls, base: object) -> object:
        return {"model": base} if isinstance(base, str) else base

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if (self.base is None) == (self.network is None):
            raise ValueError("give either base, a generator to start from, or network, a new one for small photographs")
        return self

    def check_new(self, adapt: Adaptation) -> None:
        """Refuse settings of a new network that need trained weights. Errors: ValueError."""
        if self.network is not None and (adapt.weights != "all" or adapt.structure.relative_to == "source"):
            raise ValueError("network has no trained weights: leave out weights and structure.relative_to: source")


class _Named(Strict):
    """What only a training by a recipe of its own has; it comes first."""

    kind: Literal["generator"] = Field(description="Marks this kind of training recipe.")
    name: FolderName = Field(description="Folder of the model.")


class GeneratorTraining(Adaptation, Beginning, _Named):
    """Training of a generator's UNet on captioned images, from scratch or as an adaptation."""

    @model_validator(mode="after")
    def _beginning_fits(self) -> Self:
        self.check_new(self)
        return self


class AdaptedSource(Beginning):
    """A generator that the build makes first: a base, adapted to images, or a new network."""

    adapt: Adaptation = Field(description="Training of its UNet. learning.balance is class by default.")

    @field_validator("adapt", mode="before")
    @classmethod
    def _classes_are_balanced(cls, adapt: Any) -> Any:
        """Set the default of learning.balance, since a build draws rare classes."""
        if not isinstance(adapt, dict) or not isinstance(adapt.get("learning"), dict):
            return adapt
        return adapt | {"learning": {"balance": "class"} | adapt["learning"]}

    @model_validator(mode="after")
    def _beginning_fits(self) -> Self:
        self.check_new(self.adapt)
        return self


def filters_of(source: ImageSource) -> Sequence[tuple[str, str, Any]]:
    """Return `where` in pyarrow's form, with lists instead of tuples."""
    return [
        (column, operator, list(value) if isinstance(value, tuple) else value)
        for column, operator, value in source.where
    ]
