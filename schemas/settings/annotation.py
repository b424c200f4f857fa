"""Settings of annotation: masks from a model's attention."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tailforge.schemas.settings.fields import ModelSource, Share, SlotName, Strict

NO_AFFINITY = (
    "annotation.affinity spreads masks by the self-attention of a UNet; Stable Diffusion 3 and Flux have none that is "
    "apart from their text, so leave it out or set it to 0"
)

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

    kind: Literal["cross_attention", "class_activation", "renoised_attention", "changed_region"] = Field(
        "cross_attention",
        description="Source of the soft maps; its default follows from the engine. cross_attention: attention of the "
        "generator, recorded during sampling. class_activation: maps of the teacher, for engine natural_inversion. "
        "renoised_attention: attention of a text-to-image model in one pass over the finished image with new noise. "
        "changed_region: the visible change of the photograph in the drawn regions, for engines that draw into "
        "photographs.",
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
    min_instance: Share = Field(
        0.5,
        description="Lowest confidence of an instance. Weaker components of a thing become 255 (ignore). The most "
        "confident component of a category always stays; judge it by gate mask_confidence.",
    )
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
