"""The recipe's words for what happens to an image that was made: how it is annotated, and whether it passes."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tailforge.schemas.settings.fields import ModelSource, Share, SlotName, Strict
from tailforge.schemas.settings.inversion import TeacherSource

WINDOW = (0.0, 0.5)  # of the noise schedule, recorded unless the recipe says otherwise


class Recording(Strict):
    """What is recorded of a generator's attention while it draws; see Annotation."""

    window: tuple[Share, Share] = WINDOW
    affinity: int = 0


class Category(Strict):
    """What one value of the masks means: a thing, which can be counted and has a box, or stuff around the things."""

    name: str
    thing: bool = True


class Annotation(Strict):
    """Masks from where the generator looks (choices of ours unless the method page says otherwise)."""

    kind: Literal["cross_attention", "class_activation", "renoised_attention"] = Field(
        "cross_attention",
        description="What the soft maps are; by default it follows from the engine. cross_attention: the generator's, "
        "recorded while it draws. class_activation: of the teacher that engine natural_inversion inverts. "
        "renoised_attention: a text-to-image model's, asked afterwards by one pass over the noised image.",
    )
    model: ModelSource | None = Field(
        None, description="renoised_attention: the text-to-image model that is asked; by default the generator."
    )
    noise: Share = Field(0.2, description="renoised_attention: how far the image is noised (t/T).")
    draws: int = Field(2, ge=1, le=64, description="renoised_attention: passes with other noise that are averaged.")
    window: tuple[Share, Share] = Field(WINDOW, description="Part of the noise schedule (t/T) that is recorded.")
    affinity: int = Field(
        0, ge=0, le=8, description="How many times a map is spread by the generator's self-attention; 0: not at all."
    )
    things: tuple[SlotName, ...] = Field(
        ("concept",),
        description="Slots of the prompts whose words get masks, boxes and scores, each a shape of its own; a value "
        "that is no concept becomes a further category of the masks.",
    )
    stuff: tuple[SlotName, ...] = Field(
        (), description="Slots whose words name what lies around the things (a surface): masked where no thing is."
    )
    refine: bool | None = Field(
        None,
        description="Let masks follow the image's edges (guided filter); by default for attention of a text-to-image "
        "model, not for class_activation.",
    )
    threshold: Literal["otsu", "concept"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        "otsu",
        description="On the soft map scaled to 0..1: Otsu's of the image, Otsu's of the concept's images of a "
        "partition together, or a fixed value; of stuff, half of it.",
    )
    ignore_band: Share = Field(
        0.0,
        description="Soft values this far below a thing's threshold, and things that are this close to each other, "
        "become 255 (ignore).",
    )
    min_component: Share = Field(0.1, description="Components smaller than this share of the largest are dropped.")
    max_hole: Share = Field(0.01, description="Holes up to this share of a thing's area are filled.")

    @property
    def slots(self) -> tuple[str, ...]:
        """All slots that are masked, things first."""
        return (*self.things, *self.stuff)

    @property
    def refined(self) -> bool:
        """`refine`, or its default."""
        return self.kind != "class_activation" if self.refine is None else self.refine

    @property
    def recorded(self) -> Recording | None:
        """What is recorded of a drawing generator's attention; None where another model is asked."""
        return None if self.kind == "renoised_attention" else Recording(window=self.window, affinity=self.affinity)

    @model_validator(mode="after")
    def _concept_is_a_thing(self) -> "Annotation":
        if "concept" not in self.things:
            raise ValueError("things lacks concept, which every image is of; put it in front")
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
    """Bounds on one score: absolute, or quantiles over the images of the same concept."""

    min: Score | None = None
    max: Score | None = None
    min_quantile: Share | None = Field(None, description="Reject the lowest share of the concept's images.")
    max_quantile: Share | None = Field(None, description="Reject above this quantile of the concept's images.")

    @model_validator(mode="after")
    def _bounded(self) -> "Gate":
        if not self.model_fields_set:
            raise ValueError("a gate needs min, max, min_quantile or max_quantile")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: no image could pass")
        if self.min_quantile is not None and self.max_quantile is not None and self.min_quantile >= self.max_quantile:
            raise ValueError(f"min_quantile {self.min_quantile} is not below max_quantile {self.max_quantile}")
        return self


# Of a recipe that names no gates. Measured: renders of the workshop, CIFAR-10, MNIST, grey photographs of solar modules
# all pass, with a sharpness of 4.7 to 26,000. Noise over all levels has more than 46,000, what is blurred below 4.
DEFAULT_GATES: Mapping[str, Gate] = {
    "brightness": Gate(min=0.02, max=0.98),
    "contrast": Gate(min=0.02),
    "clipped": Gate(max=0.97),
    "sharpness": Gate(min=4, max=35_000),
}


class NearDuplicates(Strict):
    """64-bit perceptual hashes; the later of two that are this close is rejected."""

    max_distance: int = Field(3, ge=0, le=32, description="Hamming distance, in bits, that still counts as the same.")
    against_references: bool = True


class Quality(Strict):
    """Quality gates, and what happens when too few images pass."""

    scorer: ModelSource | None = Field(
        None, description="CLIP model; needed for clip_score, concept_margin, reference_similarity and crop_score."
    )
    verifier: TeacherSource | None = Field(
        None,
        description="Classifier that knows the concepts by name and had no part in the images; for verifier_agreement.",
    )
    gates: Mapping[Literal[GATES], Gate] = Field(  # type: ignore[valid-type]
        DEFAULT_GATES,
        description="Bounds on scores. Those of a recipe that names none refuse what is blank, blurred to nothing or "
        "noise, whatever it shows. `gates: none` lets every image pass, and the report then says: not checked.",
    )
    near_duplicates: NearDuplicates | None = NearDuplicates()
    oversample: float = Field(
        1.2,
        ge=1,
        le=100,
        description="Images of the first round over images wanted; just those wanted where there are neither gates nor "
        "near_duplicates, and max_rounds allows another round for images that fail.",
    )
    max_rounds: int = Field(3, ge=1, le=100, description="Rounds of synthesis, the first included.")
    round_limit: float | None = Field(
        5.0,
        ge=1,
        le=1e6,
        description="A further round may draw at most so many times the images (runs of an inversion) of the first; a "
        "build stops before a larger one and says why, unless --yes. null: no limit.",
    )
    on_shortfall: Literal["report", "fail"] = "report"

    @field_validator("gates", mode="before")
    @classmethod
    def _none_is_no_gate(cls, gates: object) -> object:
        return {} if gates is None or gates == "none" else gates

    @property
    def scorer_gates(self) -> list[str]:
        """Gates that the scorer measures."""
        return [name for name in SCORER_GATES if name in self.gates]

    @model_validator(mode="after")
    def _verifier_for_its_gate(self) -> "Quality":
        if "verifier_agreement" in self.gates and self.verifier is None:
            raise ValueError("gate verifier_agreement needs quality.verifier, a classifier of the recipe's concepts")
        return self
