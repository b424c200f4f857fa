"""Measure how much of its concept an annotated image still shows, above all after augmentation. Our choices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.tables import SHAPE_SCORES
from tailforge.tasks.methods.masks.components import keep_components

KEPT = 0.1  # share of the concept's former area; with less, the image no longer shows it


def list_concept_instances(instances: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the concept's rows of INSTANCES."""
    return [each for each in instances if each["slot"] == "concept"]


def bound_concept(instances: Sequence[Mapping[str, Any]]) -> list[float] | None:
    """Return the box around all instances of the concept: x, y, width, height in pixels; None without one."""
    boxes = np.array([each["bbox"] for each in list_concept_instances(instances)])
    if not len(boxes):
        return None
    start, end = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
    return [*start.tolist(), *(end - start).tolist()]


def measure_concept(instances: Sequence[Mapping[str, Any]], height: int, width: int) -> dict[str, float]:
    """Return the SHAPE_SCORES of the concept among INSTANCES rows of an image of this size."""
    # Area, number of components and share of the largest; an absent concept gives zeros.
    regions = [decode_rle(each["rle"], height, width) for each in list_concept_instances(instances)]
    areas = keep_components(np.any(regions, axis=0), 0.0)[1] if regions else []
    scores = (sum(areas) / (height * width), len(areas), max(areas, default=0) / max(sum(areas), 1))
    return dict(zip(SHAPE_SCORES, scores, strict=True))


def keeps_concept(before: float, after: float) -> bool:
    """Return whether an image still shows the concept, from the fractions of the image that it filled before and after.

    Without a mask this is unknown, and the concept counts as kept.
    """
    return before == 0 or after >= KEPT * before
