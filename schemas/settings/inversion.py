"""Settings of NaturalInversion: images from a trained classifier. What they do: tasks/methods/natural_inversion."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tailforge.schemas.documents.shown import show
from tailforge.schemas.settings.engine_settings import EngineSettings, name_scorer_gates
from tailforge.schemas.settings.fields import ModelSource, Positive, Strict, Text, Weight

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe

Form = Literal["pyramid", "generator", "pixels"]
Side = Annotated[int, Field(ge=4, le=4096)]
IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
# Of pixels in 0..1 both are below 1; the room is for odd preparations, numbers of pixels in 0..255 are beyond it.
OF_UNIT_PIXELS: Mapping[str, tuple[float, float]] = {"mean": (-1, 2), "std": (0, 2)}


class TeacherSource(ModelSource):
    """A trained image classifier: a transformers model, or any torch module that `module` builds.

    What is left out here is read from the model's config.json and preprocessor_config.json.
    """

    module: str | None = Field(
        None,
        max_length=1000,
        description="`package.module:callable` that returns the torch module; it is imported, so it runs as your own "
        "code. Keyword arguments: `arguments` in the model's config.json. Without it the model is one of transformers.",
    )
    mean: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...] | None = Field(
        None, min_length=1, description="Of each channel, pixels in 0..1."
    )
    std: tuple[Positive, ...] | None = Field(None, min_length=1, description="Of each channel, pixels in 0..1.")
    size: tuple[Side, Side] | None = Field(None, description="Height and width of the input in pixels.")
    class_names: tuple[Text, ...] | None = Field(None, min_length=2)

    @field_validator("module")
    @classmethod
    def _module_is_an_import_path(cls, module: str | None) -> str | None:
        if module is not None and not IMPORT_PATH.fullmatch(module):
            raise ValueError(
                "must be package.module:callable, for example networks.digits:build, a function or class that returns "
                f"the torch module; found {show(module)}"
            )
        return module

    @field_validator("mean", "std")
    @classmethod
    def _of_unit_pixels(cls, values: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        low, high = OF_UNIT_PIXELS[str(info.field_name)]
        if beyond := [value for value in values or () if not low <= value <= high]:
            raise ValueError(
                f"pixels are in 0..1, so {beyond[0]:g} cannot be right; divide by 255 what was taken of pixels in "
                "0..255"
            )
        return values


# The numbers of the authors' code; both presets share all but the two below.
PUBLISHED: Mapping[str, Any] = {
    "form": "pyramid",
    "batch_size": 256,
    "groups": 1,
    "latent_size": 1024,
    "width": 128,
    "alpha_start": 5.0,
    "generator_rate": 1e-3,
    "pyramid_rate": 5e-4,
    "alpha_rate": 0.05,
    "variation_weight": 6e-3,
    "norm_weight": 1.5e-5,
    "jitter": 2,
    "flip": True,
    "zero_start": False,
    "scale_free": False,
    "saved_pixels": False,
    "stale_features": False,
    "warm_start": False,
    "stop_improvement": None,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "cifar10": {**PUBLISHED, "steps": 2000, "statistics_weight": 10.0},
    "cifar100": {**PUBLISHED, "steps": 4000, "statistics_weight": 3.0},
}

# Settings that only some forms read; the others read none of them.
LATE = 0.75  # of the steps; without stop_improvement no candidate is scored before
DRAWN: tuple[Form, ...] = ("pyramid", "generator")
FORMS_OF: Mapping[str, tuple[Form, ...]] = {
    "latent_size": DRAWN,
    "width": DRAWN,
    "alpha_start": DRAWN,
    "generator_rate": DRAWN,
    "alpha_rate": DRAWN,
    "warm_start": DRAWN,
    "pyramid_rate": ("pyramid",),
    "zero_start": ("pyramid",),
    "stale_features": ("pyramid",),
    "pixel_rate": ("pixels",),
}


class InversionSettings(Strict):
    """How a teacher is inverted. Presets cifar10 and cifar100 take the authors' numbers wherever a key is not given."""

    preset: Literal["default", "cifar10", "cifar100"] = "default"
    form: Form = Field(
        "pyramid",
        description="pyramid: as published. generator: without the Feature Transfer Pyramid. pixels: the image itself "
        "is optimised, as DeepInversion does.",
    )
    steps: int = Field(400, ge=1, le=100_000, description="Optimiser steps for each batch, at most.")
    batch_size: int = Field(64, ge=2, le=4096, description="Images that share one generator.")
    groups: int = Field(1, ge=1, le=256, description="Generators that are trained side by side in one teacher pass.")
    latent_size: int = Field(128, ge=1, le=8192, description="Noise numbers of an image.")
    width: int = Field(32, ge=2, le=1024, description="Channels of the generator; half of it before the picture.")
    alpha_start: float = Field(3.0, gt=0, le=100, description="Mean of the channel scales at the start.")
    generator_rate: float = Field(1e-2, gt=0, le=10)
    pyramid_rate: float = Field(3e-3, gt=0, le=10)
    alpha_rate: float = Field(0.06, gt=0, le=10)
    pixel_rate: float = Field(0.1, gt=0, le=10, description="Learning rate of form pixels.")
    statistics_weight: Weight = Field(10.0, description="Of the distance to the BatchNorm layers' statistics.")
    variation_weight: Weight = Field(1e-3, description="Of the total variation.")
    norm_weight: Weight = Field(1.5e-5, description="Of the images' norm.")
    jitter: int = Field(2, ge=0, le=64, description="Images are rolled by up to so many pixels in every step.")
    flip: bool = Field(False, description="Images are mirrored in half of the steps; not for digits and letters.")
    zero_start: bool = Field(True, description="The pyramid starts without effect: step 0 equals form generator.")
    scale_free: bool = Field(
        True, description="Statistics relative to each layer's own, total variation and norm as of 256 images."
    )
    saved_pixels: bool = Field(
        True, description="The loss sees the 8-bit image that will be saved; gradients pass straight through."
    )
    stale_features: bool = Field(True, description="The pyramid reads the last step's teacher pass: a third less work.")
    warm_start: bool = Field(False, description="A batch takes over the convolutions of the one before in its place.")
    score_every: int = Field(
        50, ge=1, le=100_000, description="Steps between candidates; one is scored without jitter."
    )
    stop_improvement: float | None = Field(
        0.02,
        gt=0,
        lt=1,
        description="A batch is done when the teacher agrees with all its labels and its loss fell by less than this "
        "part since the last candidate; null: never before `steps`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, data: Any) -> Any:
        preset = data.get("preset") if isinstance(data, dict) else None
        numbers = PRESETS.get(preset) if isinstance(preset, str) else None
        return {**numbers, **data} if numbers else data


class NaturalInversionEngine(EngineSettings, InversionSettings):
    """NaturalInversion (arXiv 2306.16661): labelled images from the weights of a classifier, the recipe's `generator`.

    Concepts are its classes, by name or number; see docs/explanation/natural_inversion.md.
    """

    inverts: ClassVar[bool] = True
    annotation_kind: ClassVar[str | None] = "class_activation"

    kind: Literal["natural_inversion"] = "natural_inversion"
    batches_per_run: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Batches of one run, the unit of work and resume; by default `groups`. With more than `groups` a "
        "batch that stops early makes room for the next.",
    )

    @model_validator(mode="after")
    def _warm_start_has_a_batch_before(self) -> "NaturalInversionEngine":
        if self.warm_start and self.batches <= self.groups:
            raise ValueError(
                f"warm_start takes over from a batch before in the same run, which holds {self.batches} batches in "
                f"{self.groups} groups; raise batches_per_run"
            )
        return self

    @property
    def batches(self) -> int:
        """Batches of one run."""
        return self.batches_per_run or self.groups

    def check_partitions(self, size: int, batch: int) -> None:
        raise ValueError(
            "partition_size: a partition of engine natural_inversion is one of its runs; leave it out and set "
            "engine.batches_per_run"
        )

    def check(self, recipe: "Recipe") -> None:
        if gates := name_scorer_gates(recipe):
            raise ValueError(
                f"quality.gates {gates}: a CLIP model, quality.scorer, would measure it, and engine "
                "natural_inversion takes none; leave it out, or use teacher_agreement, or verifier_agreement with "
                "quality.verifier"
            )
        _refuse_text(recipe)
        if recipe.annotation.kind == "renoised_attention" and recipe.annotation.model is None:
            raise ValueError(
                "annotation.kind renoised_attention: engine natural_inversion has no text-to-image model to ask; name "
                "one as annotation.model"
            )

    def find_idle(self) -> Iterator[str]:
        given = self._given()
        for name, forms in FORMS_OF.items():
            if name in given and self.form not in forms:
                yield (
                    f"engine.{name} has no effect with engine.form {self.form}; leave it out or set form: "
                    f"{' or '.join(forms)}"
                )
        if "score_every" in given:
            yield from self._never_scored()
        if self.groups > self.batches:
            yield (
                f"engine.groups {self.groups} is above engine.batches_per_run {self.batches}, of which they are "
                f"trained side by side; give {self.batches} at most, or more batches_per_run"
            )

    def _given(self) -> set[str]:
        """What the author gave. A preset's numbers count as set too; those that equal it may be its own."""
        preset = PRESETS.get(self.preset, {})
        return {name for name in self.model_fields_set if name not in preset or getattr(self, name) != preset[name]}

    def _never_scored(self) -> Iterator[str]:
        every, steps = self.score_every, self.steps
        last_but_one = (steps - 1) // every * every  # the last step is always scored
        if every > steps:
            yield f"engine.score_every {every} is above engine.steps {steps}; give {steps} to score the last step alone"
        elif self.stop_improvement is None and last_but_one < LATE * steps and 4 <= steps != every:
            yield (
                f"engine.score_every {every} has no multiple in the last quarter of engine.steps {steps}, where alone "
                f"candidates are scored with engine.stop_improvement null; give {steps // 4} at most, or {steps} to "
                "score the last step alone"
            )


def _refuse_text(recipe: "Recipe") -> None:
    """Errors: ValueError for what reads a prompt."""
    reasons = {
        "quality.scorer": recipe.quality.scorer is not None,
        "prompts.attributes": bool(recipe.prompts.attributes),
        "prompts.language_model": recipe.prompts.language_model is not None,
        "annotation.kind cross_attention": recipe.annotation.kind == "cross_attention",
    }
    for name, given in reasons.items():
        if given:
            raise ValueError(
                f"{name}: engine natural_inversion makes images from a classifier, which reads no text, "
                "so no prompt; leave it out (teacher_agreement and verifier_agreement replace a scorer's gates)"
            )
