"""Choose the classes of a round by Thompson sampling: each batch goes to the class that one draw of beliefs prefers.

Source: Thompson, "On the likelihood that one unknown probability exceeds another in view of the evidence of two
samples" (Biometrika 25, 1933); "A tutorial on Thompson sampling" (arXiv 1707.02038), section 3. All batches of a round
use the beliefs at its start, since nothing is measured within it.

Letters of shapes: B batches, K classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.allocation.posterior import Beliefs, Floats

STREAM = 23  # separates these random numbers from all others
CHANCE_DRAWS = 2000  # of beliefs, from which the chance to be the best class is counted

Classes = NDArray[np.int64]


def value_per_cost(beliefs: Beliefs, yields: Floats, costs: Sequence[float]) -> Beliefs:
    """Return beliefs on the gain per unit of cost: that per kept image, times kept per drawn images, over the cost.

    `yields` and `costs`: kept images per drawn one, and the cost of a drawn one, [K]. Errors: ValueError for a cost
    that is not positive.
    """
    # The probability of each curve stays, whatever its gain is counted in.
    if not min(costs) > 0:
        raise ValueError("the cost of an image is positive")
    scale = yields / np.asarray(costs, np.float64)
    return Beliefs(beliefs.weights, beliefs.gains * scale[:, None])


def choose_classes(value: Beliefs, is_open: Sequence[bool], batches: int, seed: int, number: int) -> Classes:
    """Return the class of each batch of a round, int64 [B]; none if no class is open.

    `is_open`: classes that may get images, [K]. `seed` and the round's `number` decide all draws.
    """
    # Closed classes are drawn as well, so that closing one moves no draw of another.
    if not any(is_open):
        return np.empty(0, np.int64)
    return _best(value, is_open, batches, np.random.default_rng((seed, STREAM, number)))


def count_chances(value: Beliefs, is_open: Sequence[bool], seed: int, number: int) -> Floats:
    """Return the probability of each class [K] to be the best one, from CHANCE_DRAWS draws; zeros if none is open."""
    # Draws of their own, so that their number never moves a choice.
    if not any(is_open):
        return np.zeros(len(is_open))
    best = _best(value, is_open, CHANCE_DRAWS, np.random.default_rng((seed, STREAM, number, 1)))
    return np.bincount(best, minlength=len(is_open)) / CHANCE_DRAWS


def _best(value: Beliefs, is_open: Sequence[bool], count: int, draws: np.random.Generator) -> Classes:
    # One curve per draw and class, by inversion of the cumulative weights.
    chances = draws.random((count, len(is_open)))
    drawn = np.full((count, len(is_open)), -np.inf)
    for each in np.flatnonzero(is_open):
        curves = np.searchsorted(value.weights[each].cumsum(), chances[:, each], side="right")
        drawn[:, each] = value.gains[each][np.minimum(curves, value.gains.shape[1] - 1)]

    # Among equals the first class is the best one.
    best: Classes = drawn.argmax(1)
    return best


def fit_budget(chosen: Classes, costs: Sequence[float], left: float) -> Classes:
    """Return the first batches that fit into a budget. `costs`: of a batch per class [K]; `left`: what may be spent."""
    # Rounding of sums must not drop a batch that fits exactly.
    spent = np.cumsum(np.asarray(costs, np.float64)[chosen])
    return chosen[: int(np.searchsorted(spent, left * (1 + 1e-9), side="right"))]
