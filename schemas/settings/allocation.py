"""Settings of the allocation: which concepts a build spends its images on, evenly asked for or where they help."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, field_validator, model_validator

from tailforge.schemas.documents.shown import count_of, shorten
from tailforge.schemas.evaluation import FitSettings
from tailforge.schemas.options import FIT, Fit
from tailforge.schemas.settings.fields import Name, Place, Seconds, Share, Strict
from tailforge.schemas.settings.licences import PHOTOGRAPHS_LICENCE, UNKNOWN, OtherLicence, PhotographsLicence

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe


class UniformAllocation(Strict):
    """Every concept gets the images that it requests."""

    steers: ClassVar[bool] = False

    by: Literal["uniform"] = Field("uniform", description="Name of the allocation.")

    @property
    def photographs(self) -> Mapping[str, str | OtherLicence]:
        """Return no licence, since no photograph is read."""
        return {}

    def check(self, recipe: "Recipe") -> None:
        """Accept any recipe."""


class RealImages(Strict):
    """Labelled real images with splits train and validation. A split test is never read."""

    folder: Place = Field(
        description="Images with classes, relative to the recipe: class folders, a table, a COCO file or tars "
        "(docs/how-to/images.md)."
    )
    root: Place | None = Field(
        None, description="Folder that paths in a table or COCO file are relative to; by default the file's own folder."
    )
    classes: Mapping[Name, Name] = Field({}, description="Class of the real images per concept, where names differ.")
    height: int | None = Field(None, ge=8, le=4096, description="Pixels; by default that of the images.")
    width: int | None = Field(None, ge=8, le=4096, description="Pixels; by default that of the images.")
    fit: Fit = Field("exact", description=FIT)
    license: PhotographsLicence = Field(UNKNOWN, description=PHOTOGRAPHS_LICENCE)

    @model_validator(mode="after")
    def _both_sides(self) -> "RealImages":
        if (self.height is None) != (self.width is None):
            raise ValueError("give height and width, or neither")
        return self

    @property
    def size(self) -> tuple[int, int] | None:
        """Return height and width, if they are given."""
        return None if self.height is None or self.width is None else (self.height, self.width)


BudgetImages = Annotated[int, Field(ge=1, le=10_000_000)]


class Budget(Strict):
    """What steering may spend: drawn images, or seconds of making and judging images."""

    images: BudgetImages | None = Field(
        None, description="Drawn images, accepted or not. Equal recipes give equal bytes."
    )
    seconds: Seconds | None = Field(
        None,
        description="Seconds of the stages samples, masks and verdicts. A class whose images take longer gets fewer. "
        "Another machine decides otherwise; the same store keeps its decisions.",
    )

    @model_validator(mode="after")
    def _one_currency(self) -> "Budget":
        if (self.images is None) == (self.seconds is None):
            raise ValueError("give images or seconds, not both")
        return self


class Judge(Strict):
    """Training of the classifiers that judge a round: the small residual network of `tailforge evaluate`."""

    steps: int = Field(400, ge=2, le=1_000_000, description="Optimiser steps.")
    batch: int = Field(128, ge=2, le=4096, description="Images per step.")
    learning_rate: float = Field(0.1, gt=0, le=10, description="Highest learning rate of the cosine schedule.")
    checks: int = Field(5, ge=1, le=100, description="Steps at which a classifier is measured on validation.")

    @model_validator(mode="after")
    def _checks_are_steps(self) -> "Judge":
        if self.checks > self.steps:
            raise ValueError(f"checks {self.checks} exceed the steps {self.steps}; set fewer checks")
        return self

    @property
    def fit(self) -> FitSettings:
        """Return the settings of one training."""
        return FitSettings(steps=self.steps, batch=self.batch, learning_rate=self.learning_rate, checks=self.checks)


class GainAllocation(Strict):
    """Images go, round by round, to the concepts whose recall on real validation images they raise most.

    Tailforge chose all defaults; docs/how-to/steer.md explains the method.
    """

    steers: ClassVar[bool] = True

    by: Literal["gain"] = Field(description="Name of the allocation.")
    budget: Budget = Field(description="What may be spent; a number alone means drawn images.")
    real: RealImages = Field(description="Real images on which classifiers learn and are judged.")
    round: int = Field(
        32,
        ge=1,
        le=100_000,
        description="Images of a round, in batches of the engine; the first gives each concept one.",
    )
    rounds: int = Field(20, ge=1, le=1000, description="Most rounds.")
    judge: Judge = Field(Judge(), description="Training of the classifiers that judge a round.")
    seeds: int = Field(2, ge=1, le=100, description="Classifiers per round; their recalls are averaged.")
    share: float = Field(0.5, gt=0, le=1, description="Most synthetic images within a classifier's draws of a concept.")
    keep: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Part of a round's accepted images per concept that is kept: those that the classifier of the "
        "round before is least sure of.",
    )
    floor: Share = Field(
        0.1,
        description="Least probability of the concept by the verifier, a classifier of real images alone. Images below "
        "are rejected as doubted.",
    )
    horizon: int = Field(
        200,
        ge=1,
        le=1_000_000,
        description="Expectation before anything is measured: so many images halve the errors of a class.",
    )
    least_gain: float = Field(
        0.02,
        ge=0,
        le=100,
        description="Recall of a concept that 100 drawn images must promise, 1 for all images of the class. Steering "
        "ends before a round whose expectation plus one standard deviation is smaller.",
    )

    @field_validator("budget", mode="before", json_schema_input_type=Budget | BudgetImages)
    @classmethod
    def _number_means_images(cls, budget: Any) -> Any:
        return {"images": budget} if isinstance(budget, int) and not isinstance(budget, bool) else budget

    @property
    def photographs(self) -> Mapping[str, str | OtherLicence]:
        """Return the licence of the real images by their use."""
        return {"steering": self.real.license}

    def check(self, recipe: "Recipe") -> None:
        """Refuse what steering cannot do with a recipe. Errors: ValueError."""
        names = [concept.name for concept in recipe.concepts]
        if unknown := [name for name in self.real.classes if name not in names]:
            raise ValueError(f"allocation.real.classes: {shorten(repr(unknown[0]))} is no concept of the recipe")
        if recipe.engine.inverts:
            raise ValueError(
                f"allocation by gain does not fit engine {recipe.engine.kind}, whose batches mix all concepts; leave "
                "allocation out, or choose another engine"
            )
        least = len(names) * recipe.engine.batch_size
        if self.budget.images is not None and self.budget.images < least:
            raise ValueError(
                f"allocation.budget: {count_of(self.budget.images, 'image')} cannot give each of "
                f"{count_of(len(names), 'concept')} a batch of {recipe.engine.batch_size}; give {least} or more, or a "
                "smaller engine.batch_size"
            )


Allocation = Annotated[UniformAllocation | GainAllocation, Discriminator("by")]
