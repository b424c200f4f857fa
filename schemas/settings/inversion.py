"""Settings of NaturalInversion: images from a trained classifier. The method: tasks/methods/natural_inversion."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tailforge.schemas.documents.shown import show
from tailforge.schemas.settings.engine_settings import EngineSettings, name_scorer_gates
from tailforge.schemas.settings.fields import ModelSource, Positive, Strict, Text, Weight
from tailforge.schemas.settings.pipelines import ADDED

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe

Form = Literal["pyramid", "generator", "pixels"]
Side = Annotated[int, Field(ge=4, le=4096)]
IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
# For pixels in 0..1 both are below 1. The bounds allow unusual preparations and exclude numbers for pixels in 0..255.
OF_UNIT_PIXELS: Mapping[str, tuple[float, float]] = {"mean": (-1, 2), "std": (0, 2)}


class TeacherSource(ModelSource):
    """A trained image classifier: a model of transformers, or any torch module that `module` builds.

    Defaults come from the model's config.json and preprocessor_config.json.
    """

    module: str | None = Field(
        None,
        max_length=1000,
        description="`package.module:callable` that returns the torch module. Tailforge imports and runs it with your "
        "rights. Its keyword arguments are `arguments` in the model's config.json. Default: a model of transformers.",
    )
    mean: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...] | None = Field(
        None, min_length=1, description="Mean per channel, for pixels in 0..1."
    )
    std: tuple[Positive, ...] | None = Field(
        None, min_length=1, description="Standard deviation per channel, for pixels in 0..1."
    )
    size: tuple[Side, Side] | None = Field(None, description="Height and width of the input, in pixels.")
    class_names: tuple[Text, ...] | None = Field(None, min_length=2, description="Names of the outputs, in order.")

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
                f"pixels are in 0..1, so {beyond[0]:g} cannot be right; divide by 255 if your pixels are in 0..255"
            )
        return values


# Numbers of the authors' code; the presets differ only in two of their numbers.
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

SHIFT = PUBLISHED["jitter"] / 32  # as a share of the side; published for 32 pixels
LATE = 0.75  # share of the steps before the first scored candidate, without stop_improvement
# Settings that some forms ignore, with the forms that read them.
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
    """Inversion of a teacher. Presets cifar10 and cifar100 set the authors' numbers for all keys not in the recipe."""

    preset: Literal["default", "cifar10", "cifar100"] = Field(
        "default", description="Source of the defaults: Tailforge, or the authors' numbers for a data set."
    )
    form: Form = Field(
        "pyramid",
        description="pyramid: as published. generator: without the Feature Transfer Pyramid. pixels: optimise the "
        "image itself, as DeepInversion.",
    )
    steps: int = Field(400, ge=1, le=100_000, description="Most optimiser steps per batch.")
    batch_size: int = Field(64, ge=2, le=4096, description="Images that share one generator.")
    groups: int = Field(1, ge=1, le=256, description="Generators trained together, with one teacher pass for all.")
    latent_size: int = Field(128, ge=1, le=8192, description="Dimensions of an image's noise.")
    width: int = Field(32, ge=2, le=1024, description="Channels of the generator, halved before its last layer.")
    alpha_start: float = Field(3.0, gt=0, le=100, description="Mean of the channel scales at the start.")
    generator_rate: float = Field(1e-2, gt=0, le=10, description="Learning rate of the generator.")
    pyramid_rate: float = Field(3e-3, gt=0, le=10, description="Learning rate of the pyramid.")
    alpha_rate: float = Field(0.06, gt=0, le=10, description="Learning rate of the channel scales.")
    pixel_rate: float = Field(0.1, gt=0, le=10, description="Learning rate of form pixels.")
    statistics_weight: Weight = Field(10.0, description="Weight of the distance to the BatchNorm layers' statistics.")
    variation_weight: Weight = Field(1e-3, description="Weight of the total variation.")
    norm_weight: Weight = Field(1.5e-5, description="Weight of the images' norm.")
    jitter: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Largest shift of the images per step, in pixels; by default 2 per 32 pixels of the shorter side.",
    )
    flip: bool = Field(False, description="Mirror images in half of the steps; not for digits and letters.")
    zero_start: bool = Field(True, description="Start the pyramid without effect: step 0 equals form generator.")
    scale_free: bool = Field(
        True,
        description="Divide distances by each layer's own statistics; scale total variation and norm to 256 images of "
        "32 x 32 pixels.",
    )
    saved_pixels: bool = Field(
        True, description="Compute the loss on the saved 8-bit image, with straight-through gradients."
    )
    stale_features: bool = Field(
        True, description="Feed the pyramid with the previous step's teacher pass: a third less work."
    )
    warm_start: bool = Field(False, description="Start a batch with the convolutions of the previous batch.")
    score_every: int = Field(50, ge=1, le=100_000, description="Steps between candidates, scored without jitter.")
    stop_improvement: float | None = Field(
        0.02,
        gt=0,
        lt=1,
        description="End a batch if the teacher agrees with all labels and the loss fell by less than this share since "
        "the last candidate. null: always run all `steps`.",
    )

    def reach(self, size: tuple[int, int]) -> int:
        """Return the largest shift per step of images of this size (height, width), in pixels; never 0 by default."""
        return self.jitter if self.jitter is not None else max(1, round(min(size) * SHIFT))

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, data: Any) -> Any:
        preset = data.get("preset") if isinstance(data, dict) else None
        numbers = PRESETS.get(preset) if isinstance(preset, str) else None
        return {**numbers, **data} if numbers else data


class NaturalInversionEngine(EngineSettings, InversionSettings):
    """NaturalInversion (arXiv 2306.16661): labelled images from the weights of a classifier, the recipe's `generator`.

    Concepts name its classes or their numbers; see docs/explanation/natural_inversion.md.
    """

    inverts: ClassVar[bool] = True
    annotation_kind: ClassVar[str | None] = "class_activation"

    kind: Literal["natural_inversion"] = Field("natural_inversion", description="Name of the engine.")
    batches_per_run: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Batches per run, the unit of work and resume; by default `groups`. With more than `groups`, the "
        "next batch starts when another ends early.",
    )

    @model_validator(mode="after")
    def _warm_start_has_a_batch_before(self) -> "NaturalInversionEngine":
        if self.warm_start and self.batches <= self.groups:
            raise ValueError(
                f"warm_start takes over from an earlier batch of the same run, which holds {self.batches} batches in "
                f"{self.groups} groups; raise batches_per_run"
            )
        return self

    @property
    def batches(self) -> int:
        """Return the batches per run."""
        return self.batches_per_run or self.groups

    def check_partitions(self, size: int, batch: int) -> None:
        """Refuse any `partition_size`. Errors: ValueError."""
        raise ValueError(
            "partition_size: a partition of engine natural_inversion is one of its runs; leave it out and set "
            "engine.batches_per_run"
        )

    def check(self, recipe: "Recipe") -> None:
        """Refuse a recipe with gates, maps or prompts that need a text model. Errors: ValueError."""
        if gates := name_scorer_gates(recipe):
            raise ValueError(
                f"quality.gates {gates}: a CLIP model, quality.scorer, would measure it, and engine "
                "natural_inversion takes none; leave it out, or use teacher_agreement, or verifier_agreement with "
                "quality.verifier"
            )
        if recipe.adaptation is not None:
            raise ValueError(
                "generator.adapt trains a text-to-image model, and engine natural_inversion takes a classifier; name "
                "one as generator, or choose another engine"
            )
        _refuse_text(recipe)
        for key in ADDED:
            if getattr(recipe.generator, key, None):
                raise ValueError(
                    f"generator.{key}: it is for a text-to-image model, and engine natural_inversion takes a "
                    "classifier; leave it out"
                )
        if recipe.annotation.kind == "renoised_attention" and recipe.annotation.model is None:
            raise ValueError(
                "annotation.kind renoised_attention: engine natural_inversion has no text-to-image model to ask; name "
                "one as annotation.model"
            )

    def find_idle(self) -> Iterator[str]:
        """Yield a line per setting without effect, such as settings of another form."""
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
                f"engine.groups {self.groups} is above engine.batches_per_run {self.batches}, so some groups would "
                f"have no batch; give {self.batches} at most, or more batches_per_run"
            )

    def _given(self) -> set[str]:
        """Return the author's settings. A preset sets fields too, so values equal to the preset do not count."""
        preset = PRESETS.get(self.preset, {})
        return {name for name in self.model_fields_set if name not in preset or getattr(self, name) != preset[name]}

    def _never_scored(self) -> Iterator[str]:
        """Yield a line if `score_every` leads to no candidate before the last step."""
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
    """Refuse settings of models that read prompts. Errors: ValueError."""
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
