"""Settings of `tailforge evaluate`: how models are trained, what their arms draw from, and what is compared."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tailforge.schemas.settings.fields import Seed, Share, Strict

DIGITS = 6  # of the figures in tables of trials
WEIGHTS = "weights"  # a trained model's file beside the table

TaskName = Literal["classification", "segmentation"]
Optimizer = Literal["sgd", "adamw"]
Sampling = Literal["natural", "balanced", "copies"]


class Augmentation(Strict):
    """Random changes of each training image. Every bound is for one draw, uniform between it and its opposite."""

    padding: int = Field(2, ge=0, le=16, description="Reflected pixels around an image before a crop.")
    flip: bool = Field(False, description="Mirror half of the images, left and right.")
    flip_vertical: bool = Field(False, description="Mirror half of the images, top and bottom.")
    contrast: float = Field(0.0, ge=0, le=0.9, description="Largest relative change of brightness and of contrast.")
    noise: float = Field(0.0, ge=0, le=0.5, description="Largest standard deviation of noise, as a share of white.")
    erase: float = Field(0.0, ge=0, le=0.9, description="Sides of one erased box, as a share of the image's sides.")

    @property
    def told(self) -> str:
        """Return the changes in one line."""
        return ", ".join(f"{key} {value}" for key, value in self.model_dump().items() if value) or "no change"


class Arm(Strict):
    """One way to choose training images, at one setting.

    `sampling` natural: each real image equally often. balanced: each class equally often. copies: as natural, with
    rare classes repeated. `source` names the version whose images the arm draws; empty without one.
    """

    name: str = Field(min_length=1, max_length=300, description="Name of the arm.")
    sampling: Sampling = Field("balanced", description="How classes are drawn.")
    source: str = Field("", max_length=200, description="Version that synthetic images come from.")
    share: Share = Field(0.0, description="Share of synthetic images within the draws of rare classes.")
    real: bool = Field(True, description="Whether the arm draws real images.")
    adjusted: bool = Field(True, description="Whether logits are adjusted by the classes' frequencies.")
    augmentation: Augmentation = Field(Augmentation(), description="Random changes of the images.")

    @property
    def setting(self) -> str:
        """Return what tells this setting from the other settings of the arm: share and augmentation."""
        share = [f"share {self.share:g}"] if self.source and self.real else []
        changed = self.name == "augmented" or self.augmentation != Augmentation()
        return ", ".join(share + ([self.augmentation.told] if changed else []))


class FitSettings(Strict):
    """Training of one model, equal for all arms. `model` and `digest`: a preset, or a model of transformers."""

    task: TaskName = Field("classification", description="Task of the model.")
    model: str = Field("residual-small", description="Name of the model.")
    digest: str = Field("", description="sha256 of the model's files; empty for a preset.")
    from_scratch: bool = Field(True, description="Whether the first weights are random.")
    optimizer: Optimizer = Field("sgd", description="Optimiser, with a cosine schedule.")
    steps: int = Field(400, ge=2, le=1_000_000, description="Optimiser steps of every arm.")
    batch: int = Field(128, ge=2, le=4096, description="Images per step.")
    learning_rate: float = Field(0.1, gt=0, le=10, description="Highest learning rate of the cosine schedule.")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="Weight decay of the optimiser.")
    checks: int = Field(5, ge=1, le=100, description="Steps at which the model is measured on validation.")


class EvaluationSettings(Strict):
    """Everything that a person may choose about an evaluation, beside images and versions.

    `batch` and `learning_rate` are the model's own unless they are given.
    """

    task: TaskName = Field("classification", description="Task of the model.")
    model: str = Field("", max_length=1000, description="Preset, folder or pinned hub id; by default the task's own.")
    from_scratch: bool = Field(False, description="Whether a model of transformers begins with random weights.")
    steps: int = Field(400, ge=2, le=1_000_000, description="Optimiser steps of every arm.")
    batch: int | None = Field(None, ge=2, le=4096, description="Images per step.")
    learning_rate: float | None = Field(None, gt=0, le=10, description="Highest learning rate of the cosine schedule.")
    checks: int = Field(5, ge=1, le=100, description="Steps at which the model is measured on validation.")
    seeds: int = Field(5, ge=2, le=100, description="Paired seeds: runs per setting of an arm.")
    first_seed: Seed = Field(0, description="The first seed; the others follow it.")
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.25, 0.5, 0.75),
        min_length=1,
        max_length=20,
        description="Shares of synthetic images within the draws of rare classes; validation chooses one.",
    )
    augmentations: int = Field(
        4,
        ge=1,
        le=100,
        description="Random augmentations that the search compares with the default one, each on the first seed.",
    )
    few: int = Field(20, ge=0, le=1_000_000, description="Most real training images of a rare class.")
    many: int = Field(100, ge=1, le=10_000_000, description="A class with more real training images is frequent.")
    learning_curve: bool = Field(
        False, description="Train real images alone with other numbers of images of rare classes too."
    )
    unmasked: Literal["background", "ignored"] = Field(
        "background", description="segmentation: what pixels of a version are that no category masks."
    )
    leaked: Literal["drop", "refuse"] = Field(
        "drop", description="What to do with test images that have a near twin among the training images."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.checks > self.steps:
            raise ValueError(f"checks {self.checks} exceed the steps {self.steps}; set fewer checks")
        if self.few > self.many:
            raise ValueError(f"few {self.few} exceeds many {self.many}; set few lower")
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError("shares are rising and different")
        return self

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """Return the seeds."""
        return tuple(range(self.first_seed, self.first_seed + self.seeds))
