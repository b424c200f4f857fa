"""Measure how much of its concept an annotated image still shows, above all after augmentation. Our choices."""

from collections.abc import Mapping, Sequence
from typing import Any

from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.tables import SHAPE_SCORES
from tailforge.tasks.methods.masks.soft_masks import keep_components

KEPT = 0.1  # share of the concept's former area; with less, the image no longer shows it


def find_concept_instance(instances: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the concept's row of INSTANCES, or None if it has none."""
    return next((each for each in instances if each["slot"] == "concept"), None)


def measure_concept(instances: Sequence[Mapping[str, Any]], height: int, width: int) -> dict[str, float]:
    """Return the SHAPE_SCORES of the concept among INSTANCES rows of an image of this size."""
    # Area, number of components and share of the largest; an absent concept gives zeros.
    found = find_concept_instance(instances)
    areas = [] if found is None else keep_components(decode_rle(found["rle"], height, width), 0.0)[1]
    scores = (sum(areas) / (height * width), len(areas), max(areas, default=0) / max(sum(areas), 1))
    return dict(zip(SHAPE_SCORES, scores, strict=True))


def keeps_concept(before: float, after: float) -> bool:
    """Return whether an image still shows the concept, from the fractions of the image that it filled before and after.

    Without a mask this is unknown, and the concept counts as kept.
    """
    return before == 0 or after >= KEPT * before
