"""Adjust logits by the classes' frequencies, and choose step and strength on validation.

Source: "Long-tail learning via logit adjustment" (arXiv 2007.07314), section 4.1, post hoc: subtract the scaled log of
a class's frequency from its logit. The strengths that are tried are our choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.evaluation.metrics import confusion_matrix, mean_recall, recall_per_class

STRENGTHS = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Check:
    """A model at one step with one strength of adjustment; `recall` per class on validation, NaN without images."""

    step: int
    strength: float
    recall: tuple[float, ...]

    @property
    def macro(self) -> float:
        """Return the mean recall over classes."""
        return mean_recall(self.recall)


def adjust_logits(logits: Floats, counts: Sequence[int], strength: float) -> Floats:
    """Return logits [N, classes] minus `strength` times the log frequency of each class, of the same shape.

    `counts`: real training images per class. A class without images counts as a class of mean frequency, our choice:
    the source knows no such class, and a frequency near 0 would prefer it to all others.
    """
    # The scale of all logits together changes no decision.
    known = np.asarray(counts, np.float64)
    frequencies = np.where(known > 0, known / max(known.sum(), 1), 1 / len(known))
    adjusted: Floats = logits - strength * np.log(frequencies)
    return adjusted


def list_checks(
    logits: Mapping[int, Floats], labels: Classes, counts: Sequence[int], strengths: Sequence[float]
) -> list[Check]:
    """Return a check per step and strength. `logits`: by step, [N, classes], of validation images with `labels` [N]."""
    # Every pair of step and strength is one candidate.
    found = []
    for step, raw in logits.items():
        for strength in strengths:
            likely = adjust_logits(raw, counts, strength).argmax(1)
            recall = recall_per_class(confusion_matrix(likely, labels, len(counts)))
            found.append(Check(step, strength, tuple(recall.tolist())))
    return found


def choose_check(checks: Sequence[Check]) -> Check:
    """Return the check of the highest macro recall; among equals the weakest adjustment, then the earliest step."""
    # Rounding makes equal what differs by the order of sums only.
    return min(checks, key=lambda each: (-round(each.macro, 9), abs(each.strength), each.step, each.strength))
