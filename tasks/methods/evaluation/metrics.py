"""Compute the figures of a model on labelled images: scores per class and group, confusions, calibration.

Letters of shapes: N units (images, or pixels of masks), K classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of the calibration error, as in its source
GROUPS = ("many", "medium", "few")

Classes = NDArray[np.int64]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def confusion_matrix(found: Classes, labels: Classes, classes: int) -> Counts:
    """Return counts [K, K]: row the label, column the class found. `found` and `labels` have one shape.

    Units with a negative label are not counted.
    """
    # Count each pair of label and class found.
    known = labels >= 0
    pairs = labels[known] * classes + found[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def recall_per_class(confusion: Counts) -> Floats:
    """Return the share of right images per class [K] of a confusion matrix [K, K]; NaN for a class without images."""
    # The diagonal holds the right ones.
    totals = confusion.sum(1)
    return np.where(totals > 0, np.diag(confusion) / np.maximum(totals, 1), np.nan)


def overlap_per_class(confusion: Counts) -> Floats:
    """Return intersection over union per class [K] of a confusion matrix [K, K]; NaN for a class without units.

    Source: "The Pascal Visual Object Classes Challenge" (doi 10.1007/s11263-014-0733-5), section 4.3, over all pixels.
    """
    # The union holds the pixels of the class and those found as it.
    right, labels, found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    return np.where(labels > 0, right / np.maximum(labels + found - right, 1), np.nan)


def mean_score(scores: Sequence[float], classes: Sequence[int] | None = None) -> float:
    """Return the mean score of some classes, by default of all; classes without images (NaN) are left out.

    NaN if no class is left.
    """
    # NaN is the only value that differs from itself.
    chosen = [scores[each] for each in (range(len(scores)) if classes is None else classes)]
    kept = [value for value in chosen if value == value]
    return float(np.mean(kept)) if kept else float("nan")


def name_groups(counts: Sequence[int], many: int, few: int) -> list[str]:
    """Return the group per class by its training images: many above `many`, few up to `few`, else medium.

    Source: "Large-Scale Long-Tailed Recognition in an Open World" (arXiv 1904.05160), section 4: bounds 100 and 20.
    """
    # The bounds themselves are few and medium.
    return ["few" if count <= few else "many" if count > many else "medium" for count in counts]


def softmax(logits: Floats) -> Floats:
    """Return probabilities [N, K, ...] of logits of the same shape."""
    # The largest logit becomes 0, so that no exponential overflows.
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: Floats = powers / powers.sum(1, keepdims=True)
    return shares


def calibration_gaps(confidence: Floats, right: NDArray[np.bool_]) -> Floats:
    """Return right units less confidences, summed per bin [BINS], of confidences [N] in 0..1.

    Gaps of several sets of units add up to those of all units.
    """
    # Bins are half open from above: (0, 1/15], (1/15, 2/15], ... as in the source of `calibration_error`.
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return np.bincount(bins, weights=right - confidence, minlength=BINS).astype(np.float64)


def calibration_error(gaps: Floats, units: int) -> float:
    """Return the expected calibration error, a scalar in 0..1, of the gaps [BINS] of all units; 0 without units.

    Source: "On Calibration of Modern Neural Networks" (arXiv 1706.04599), equation 3, with BINS equal bins.
    """
    # A bin counts by its share of the units.
    return float(np.abs(gaps).sum()) / units if units else 0.0
