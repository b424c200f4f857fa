"""Adjust logits by the classes' frequencies, and choose step and strength on validation.

Source: "Long-tail learning via logit adjustment" (arXiv 2007.07314), section 4.1, post hoc: subtract the scaled log of
a class's frequency from its logit. The strengths that are tried are our choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.evaluation.metrics import mean_score

STRENGTHS = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Check:
    """A model at one step with one strength of adjustment; `scores` per class on validation, NaN without images."""

    step: int
    strength: float
    scores: tuple[float, ...]

    @property
    def macro(self) -> float:
        """Return the mean score over classes."""
        return mean_score(self.scores)


def adjust_logits(logits: Floats, counts: Sequence[int], strength: float) -> Floats:
    """Return logits [N, classes, ...] minus `strength` times the log frequency of each class, of the same shape.

    `counts`: real training images or pixels per class. A class without any counts as a class of mean frequency, our
    choice: the source knows no such class, and a frequency near 0 would prefer it to all others.
    """
    # The scale of all logits together changes no decision.
    known = np.asarray(counts, np.float64)
    frequencies = np.where(known > 0, known / max(known.sum(), 1), 1 / len(known))
    lost = strength * np.log(frequencies)
    adjusted: Floats = logits - lost.reshape(-1, *(1,) * (logits.ndim - 2))
    return adjusted


def choose_check(checks: Sequence[Check]) -> Check:
    """Return the check of the highest mean score; among equals the weakest adjustment, then the earliest step."""
    # Rounding makes equal what differs by the order of sums only.
    return min(checks, key=lambda each: (-round(each.macro, 9), abs(each.strength), each.step, each.strength))
