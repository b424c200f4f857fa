"""Settings of annotation and of quality gates, which follow synthesis."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tailforge.schemas.settings.fields import ModelSource, Share, SlotName, Strict
from tailforge.schemas.settings.inversion import TeacherSource

WINDOW = (0.0, 0.5)  # default part of the noise schedule (t/T) with recorded attention


class Recording(Strict):
    """Settings for recording a generator's attention during sampling; see Annotation."""

    window: tuple[Share, Share] = WINDOW
    affinity: int = 0


class Category(Strict):
    """The meaning of one value of the masks: a thing, which can be counted and has a box, or stuff around things."""

    name: str
    thing: bool = True


class Annotation(Strict):
    """Masks from a model's attention. Tailforge chose the defaults, except for those that the method page cites."""

    kind: Literal["cross_attention", "class_activation", "renoised_attention"] = Field(
        "cross_attention",
        description="Source of the soft maps; its default follows from the engine. cross_attention: attention of the "
        "generator, recorded during sampling. class_activation: maps of the teacher, for engine natural_inversion. "
        "renoised_attention: attention of a text-to-image model in one pass over the finished image with new noise.",
    )
    model: ModelSource | None = Field(
        None, description="renoised_attention: the text-to-image model; by default the generator."
    )
    noise: Share = Field(0.2, description="renoised_attention: noise level of the image (t/T).")
    draws: int = Field(2, ge=1, le=64, description="renoised_attention: averaged passes, each with its own noise.")
    window: tuple[Share, Share] = Field(WINDOW, description="Recorded part of the noise schedule (t/T).")
    affinity: int = Field(
        0, ge=0, le=8, description="Times that the generator's self-attention spreads a map; 0: never."
    )
    things: tuple[SlotName, ...] = Field(
        ("concept",),
        description="Slots of the prompts with words for countable objects. Each word gets a mask, a box and a score. "
        "A value that is no concept becomes a further category of the masks.",
    )
    stuff: tuple[SlotName, ...] = Field(
        (), description="Slots with words for surroundings (a surface), which are masked outside all things."
    )
    refine: bool | None = Field(
        None,
        description="Align masks with the image's edges (guided filter). Default: true for attention of a "
        "text-to-image model, false for class_activation.",
    )
    threshold: Literal["otsu", "concept"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        "otsu",
        description="Threshold of the soft map, scaled to 0..1. otsu: Otsu's threshold of the image. concept: Otsu's "
        "threshold of all images in a partition. Or a fixed value. Stuff uses half of it.",
    )
    ignore_band: Share = Field(
        0.0,
        description="A pixel becomes 255 (ignore) if its soft value is below a thing's threshold by less than this, or "
        "if two things differ by less than this.",
    )
    min_component: Share = Field(0.1, description="Drop components smaller than this share of the largest.")
    max_hole: Share = Field(0.01, description="Fill holes up to this share of a thing's area.")

    @property
    def slots(self) -> tuple[str, ...]:
        """Return all masked slots, things first."""
        return (*self.things, *self.stuff)

    @property
    def refined(self) -> bool:
        """Return `refine` or its default."""
        return self.kind != "class_activation" if self.refine is None else self.refine

    @property
    def recorded(self) -> Recording | None:
        """Return the settings for recording attention during sampling, or None if a later pass measures it."""
        return None if self.kind == "renoised_attention" else Recording(window=self.window, affinity=self.affinity)

    @model_validator(mode="after")
    def _concept_is_a_thing(self) -> "Annotation":
        if "concept" not in self.things:
            raise ValueError("things lacks concept, which every image shows; put it in front")
        if "concept" in self.stuff:
            raise ValueError("stuff holds concept, which is a thing; leave it out")
        if twice := sorted({name for name in self.slots if self.slots.count(name) > 1}):
            raise ValueError(f"slot {twice[0]!r} is named twice in things and stuff; name it once")
        return self

    @field_validator("window")
    @classmethod
    def _rising(cls, window: tuple[float, float]) -> tuple[float, float]:
        if window[0] > window[1]:
            raise ValueError(f"window begins at {window[0]} and ends at {window[1]}; give the smaller number first")
        return window


GATES = (
    "brightness",
    "contrast",
    "clipped",
    "sharpness",
    "clip_score",
    "concept_margin",
    "reference_similarity",
    "crop_score",
    "teacher_agreement",
    "verifier_agreement",
    "mask_area",
    "mask_confidence",
)
SCORER_GATES = ("clip_score", "concept_margin", "reference_similarity", "crop_score")


Score = Annotated[float, Field(ge=-1e9, le=1e9)]


class Gate(Strict):
    """Bounds on one score: absolute values, or quantiles over the images of the same concept."""

    min: Score | None = Field(None, description="Lowest accepted score.")
    max: Score | None = Field(None, description="Highest accepted score.")
    min_quantile: Share | None = Field(None, description="Reject this lowest share of the concept's images.")
    max_quantile: Share | None = Field(None, description="Reject images above this quantile of the concept's images.")

    @model_validator(mode="after")
    def _bounded(self) -> "Gate":
        if not self.model_fields_set:
            raise ValueError("a gate needs min, max, min_quantile or max_quantile")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: no image could pass")
        if self.min_quantile is not None and self.max_quantile is not None and self.min_quantile >= self.max_quantile:
            raise ValueError(f"min_quantile {self.min_quantile} is not below max_quantile {self.max_quantile}")
        return self


# Gates of a recipe that names none. Measured: all renders of the workshop, CIFAR-10, MNIST and grey photographs of
# solar modules pass, with a sharpness of 4.7 to 26,000. Noise has more than 46,000, blurred images less than 4.
DEFAULT_GATES: Mapping[str, Gate] = {
    "brightness": Gate(min=0.02, max=0.98),
    "contrast": Gate(min=0.02),
    "clipped": Gate(max=0.97),
    "sharpness": Gate(min=4, max=35_000),
}


class NearDuplicates(Strict):
    """Rejection of the later of two images with similar 64-bit perceptual hashes."""

    max_distance: int = Field(3, ge=0, le=32, description="Largest Hamming distance of duplicates, in bits.")
    against_references: bool = Field(True, description="Also reject images similar to a reference photograph.")


class Quality(Strict):
    """Quality gates, and rounds until enough images pass."""

    scorer: ModelSource | None = Field(
        None, description="CLIP model; needed for clip_score, concept_margin, reference_similarity and crop_score."
    )
    verifier: TeacherSource | None = Field(
        None,
        description="Classifier for gate verifier_agreement. It knows the concepts by name and is independent of the "
        "images.",
    )
    gates: Mapping[Literal[GATES], Gate] = Field(  # type: ignore[valid-type]
        DEFAULT_GATES,
        description="Bounds on scores. The default rejects blank images, blur and noise, for any subject. With "
        "`gates: none` every image passes, and the report says: not checked.",
    )
    near_duplicates: NearDuplicates | None = Field(
        NearDuplicates(), description="Rejection of near duplicates; null: none."
    )
    oversample: float = Field(
        1.2,
        ge=1,
        le=100,
        description="Images of the first round per requested image. Without gates and near_duplicates the first round "
        "makes the requested images only, if max_rounds allows another round for failures.",
    )
    max_rounds: int = Field(3, ge=1, le=100, description="Most rounds of synthesis, the first included.")
    round_limit: float | None = Field(
        5.0,
        ge=1,
        le=1e6,
        description="Most images (runs of an inversion) of a later round per image of the first. A build stops before "
        "a larger round and gives the reason, unless it has --yes. null: no limit.",
    )
    on_shortfall: Literal["report", "fail"] = Field(
        "report",
        description="If a concept has too few accepted images after the last round. report: publish and report it. "
        "fail: publish nothing.",
    )

    @field_validator("gates", mode="before")
    @classmethod
    def _none_is_no_gate(cls, gates: object) -> object:
        return {} if gates is None or gates == "none" else gates

    @property
    def scorer_gates(self) -> list[str]:
        """Return the names of the gates that the scorer measures."""
        return [name for name in SCORER_GATES if name in self.gates]

    @model_validator(mode="after")
    def _verifier_for_its_gate(self) -> "Quality":
        if "verifier_agreement" in self.gates and self.verifier is None:
            raise ValueError("gate verifier_agreement needs quality.verifier, a classifier of the recipe's concepts")
        return self
