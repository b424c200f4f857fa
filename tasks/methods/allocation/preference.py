"""Prefer accepted images that the current classifier is unsure of and an independent one still calls right.

Uncertainty is the entropy of the class probabilities, as in uncertainty sampling ("Active Learning Literature Survey",
Settles 2009, section 3.1). The floor against wrong labels and the part that is kept are our choices.

Letters of shapes: N images, K classes.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.allocation.posterior import Floats

DOUBTED, SEEN, EASY = "doubted", "near_validation", "surplus"  # why an accepted image is not kept

Classes = NDArray[np.int64]
Reasons = NDArray[np.object_]


def measure_entropy(shares: Floats) -> Floats:
    """Return the entropy [N] of class probabilities [N, K], in nats: 0 if sure, log K if undecided."""
    # A probability of 0 adds nothing.
    logs = np.log(np.where(shares > 0, shares, 1.0))
    entropy: Floats = np.maximum(-(shares * logs).sum(1), 0.0)
    return entropy


def prefer_images(
    labels: Classes, entropy: Floats, right: Floats, seen: NDArray[np.bool_], keep: float, floor: float
) -> Reasons:
    """Return why each image is not kept, [N]; None for a kept one.

    `labels`: classes; `entropy`: of the current classifier; `right`: the verifier's probability of the class; `seen`:
    images that are near twins of validation images; all [N]. Of each class the part `keep` of the images that remain
    is kept, at least one, the least sure first and among equals the first.
    """
    # Wrong labels and twins are out.
    reasons = np.full(len(labels), None, np.object_)
    reasons[~(right >= floor)] = DOUBTED
    reasons[seen] = SEEN

    # Of each class the least sure stay.
    for label in np.unique(labels):
        own = np.flatnonzero((labels == label) & np.equal(reasons, np.array(None, np.object_)).astype(bool))
        order = own[np.argsort(-np.round(entropy[own], 9), kind="stable")]
        reasons[order[math.ceil(round(keep * len(own), 9)) :]] = EASY
    return reasons
