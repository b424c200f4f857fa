"""Estimate how much of a mask is right, from the measurements of the annotation.

Each measurement but the rivalry is stored. Gates read one number, the expected intersection over union with the true
mask. It is a logistic function of some measurements:

    confidence = sigmoid(w . features + b)

The features and the form are our choices: contrast and presence added nothing to separability and are left out. The
weights were fitted on the workshop, where true masks are known (tests/benchmarks/masks/calibration.py). For another
generator the number still ranks its masks, but is not calibrated.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Printed by tests/benchmarks/masks/calibration.py from 600 renders.
WEIGHTS = {"separability": 9.08, "largest_share": 0.89, "area": -0.32, "agreement": 0.2}
BIAS = -7.62
RIVALRY = -3.53  # weight of rivalry, printed by the same from 200 renders of two different parts
# Of instances, printed by the same from 200 renders each of one part, of two different parts and of two of one part.
INSTANCE_WEIGHTS = {"separability": 9.93, "area": 0.33, "rivalry": -2.28}
INSTANCE_BIAS = -6.45
# Of words whose object is drawn or not, printed by the same from 40 renders with a part and 40 surfaces without one.
DRAWN_WEIGHTS = {"separability": 31.14, "agreement": 22.75}
DRAWN_BIAS = -40.99
USUAL_AGREEMENT = 0.81  # used after a single reading
SMALLEST_AREA = 1e-4


@dataclass(frozen=True)
class Parts:
    """Measurements of a mask; names as in tables.MASK_SCORES without the prefix. `agreement`: None if unknown."""

    area: float = 0.0
    contrast: float = 0.0
    separability: float = 0.0
    presence: float = 0.0
    components: int = 0
    largest_share: float = 0.0
    agreement: float | None = None


def list_features(parts: Parts) -> dict[str, float]:
    """Return the inputs of the logistic function, by the names of WEIGHTS."""
    # The area counts by its logarithm; an unknown agreement counts as the usual one.
    return {
        "separability": parts.separability,
        "largest_share": parts.largest_share,
        "area": math.log(max(parts.area, SMALLEST_AREA)),
        "agreement": USUAL_AGREEMENT if parts.agreement is None else parts.agreement,
    }


def estimate_overlap(parts: Parts, rivalry: float = 0.0) -> float:
    """Return the expected intersection over union of the mask with the truth, 0..1.

    `rivalry`: mean soft map of the other categories' words over that of its own word, in its pixels.
    """
    return _squash(BIAS + RIVALRY * rivalry, WEIGHTS, list_features(parts))


def list_instance_features(separability: float, area: float, rivalry: float) -> dict[str, float]:
    """Return the inputs of the logistic function of an instance, by the names of INSTANCE_WEIGHTS."""
    return {"separability": separability, "area": math.log(max(area, SMALLEST_AREA)), "rivalry": rivalry}


def estimate_instance(separability: float, area: float, rivalry: float) -> float:
    """Return the expected intersection over union of an instance with one true object of its category, 0..1.

    `separability`: of its word. `area`: its share of the image. `rivalry`: mean soft map of the other categories' words
    over that of its own word, in its pixels.
    """
    return _squash(INSTANCE_BIAS, INSTANCE_WEIGHTS, list_instance_features(separability, area, rivalry))


def list_drawn_features(separability: float, agreement: float) -> dict[str, float]:
    """Return the inputs of the logistic function of a word's presence, by the names of DRAWN_WEIGHTS."""
    return {"separability": separability, "agreement": agreement}


def estimate_drawn(separability: float, agreement: float) -> float:
    """Return the chance that an image shows the object of a word, 0..1, from its map and the agreement of readings.

    Attention to an object that is not drawn wanders from step to step. Attention to another object in its place does
    not, so this says nothing about wrong objects.
    """
    return _squash(DRAWN_BIAS, DRAWN_WEIGHTS, list_drawn_features(separability, agreement))


def _squash(bias: float, weights: Mapping[str, float], features: Mapping[str, float]) -> float:
    """Return the logistic function of the features."""
    return 1 / (1 + math.exp(-(bias + sum(weights[name] * value for name, value in features.items()))))
