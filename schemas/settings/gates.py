"""The scores of an image and their gates: the one table of scores. A gate on a new score begins here.

A new score also needs a column (schemas/tables.py) and a measurement (tasks/methods/quality/judge_images.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailforge.schemas.settings.fields import Share, Strict

INFINITE = float("inf")


@dataclass(frozen=True)
class ScoreKind:
    """One score: its source, its title and meaning in the report, its least and greatest value.

    `more_is_better`: whether a low score alone is a fault.
    """

    source: Literal["pixels", "scorer", "classifier", "mask"]
    title: str
    meaning: str
    least: float = 0.0
    greatest: float = 1.0
    more_is_better: bool = True


# In the order of the gates: the first gate that an image misses is the reason of its rejection.
SCORES: Mapping[str, ScoreKind] = {
    "brightness": ScoreKind("pixels", "Brightness", "mean luma, 0 to 1", more_is_better=False),
    "contrast": ScoreKind("pixels", "Contrast", "standard deviation of luma"),
    "clipped": ScoreKind("pixels", "Clipped pixels", "fraction at the ends of the range", more_is_better=False),
    "sharpness": ScoreKind("pixels", "Sharpness", "variance of the Laplacian of luma", greatest=INFINITE),
    "clip_score": ScoreKind("scorer", "CLIP score", "cosine of image and caption", -1.0),
    "concept_margin": ScoreKind(
        "scorer", "Concept margin", "cosine with its own concept minus the best other", -2.0, 2.0
    ),
    "reference_similarity": ScoreKind(
        "scorer", "Nearest reference", "largest cosine with a reference photograph", -1.0
    ),
    "crop_score": ScoreKind(
        "scorer", "Crop score", "cosine of the content of the mask's box and the concept's name", -1.0
    ),
    "teacher_agreement": ScoreKind(
        "classifier", "Teacher's agreement", "its probability of the concept, on the saved image"
    ),
    "verifier_agreement": ScoreKind(
        "classifier", "Verifier's agreement", "an independent classifier's probability of the concept"
    ),
    "mask_area": ScoreKind("mask", "Mask area", "fraction of the image", more_is_better=False),
    "mask_confidence": ScoreKind("mask", "Mask confidence", "0 to 1"),
}
GATES = tuple(SCORES)


def gates_of(source: str) -> tuple[str, ...]:
    """Return the gates on scores from this source, in order."""
    return tuple(name for name, score in SCORES.items() if score.source == source)


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
