"""Estimate what one more image of a class adds to the class's recall, with its uncertainty.

The errors of a class are taken to fall along a curve e exp(-k n) over its kept images n. The errors e before the first
image and the rate k are unknown. The posterior over a grid of curves follows from Bayes' rule: the prior times the
binomial likelihood of each measured recall. The gain per image, k e exp(-k n), shrinks as images add up.

The measured recalls themselves are compared with the curve, and not their differences from round to round: a round is
too small to be seen alone. Curve, prior and grid are our choices.

Letters of shapes: T rounds, K classes, M curves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATES, ERRORS = 64, 49  # of the grid; each rate, and each error, has the same prior probability
SMALLEST = 1e-9  # probability of an error or a hit, so that no curve is impossible

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """What was measured so far, per class in one order.

    `drawn` and `kept`: images per round, [T, K]. `recall`: before the first round and after each, [T + 1, K].
    `validation`: real images per class on which recall is measured, [K].
    """

    drawn: Sequence[Sequence[int]]
    kept: Sequence[Sequence[int]]
    recall: Sequence[Sequence[float]]
    validation: Sequence[int]

    @property
    def rounds(self) -> int:
        """Return the number of rounds."""
        return len(self.drawn)

    @property
    def total_kept(self) -> list[int]:
        """Return the kept images per class [K]."""
        return _sum_rounds(self.kept, len(self.validation))

    @property
    def total_drawn(self) -> list[int]:
        """Return the drawn images per class [K]."""
        return _sum_rounds(self.drawn, len(self.validation))


@dataclass(frozen=True)
class Beliefs:
    """The posterior of each class over curves: `weights` [K, M], and the `gains` of recall per kept image [K, M]."""

    weights: Floats
    gains: Floats

    @property
    def mean(self) -> Floats:
        """Return the expected gain per image [K]."""
        mean: Floats = (self.weights * self.gains).sum(1)
        return mean

    @property
    def deviation(self) -> Floats:
        """Return the standard deviation of the gain per image [K]."""
        spread = self.gains - self.mean[:, None]
        deviation: Floats = np.sqrt((self.weights * spread**2).sum(1))
        return deviation


def estimate_gains(history: History, horizon: int) -> Beliefs:
    """Return the posterior of the gain per image. `horizon`: images that halve the errors of a class in the prior."""
    # Images kept before each measurement, [T + 1, K].
    kept = np.asarray(history.kept, np.float64).reshape(-1, len(history.validation))
    images = np.concatenate([np.zeros((1, kept.shape[1])), kept.cumsum(0)])
    recall = np.asarray(history.recall, np.float64)
    found = [
        _weigh_curves(images[:, each], recall[:, each], count, horizon) for each, count in enumerate(history.validation)
    ]
    weights, gains = zip(*found, strict=True)
    return Beliefs(np.stack(weights), np.stack(gains))


def _weigh_curves(images: Floats, recall: Floats, count: int, horizon: int) -> tuple[Floats, Floats]:
    """Return probability and gain per image of each curve [M], from recalls [T + 1] after `images` [T + 1]."""
    # Prior: errors are uniform, rates are exponential with the mean that halves the errors after `horizon` images.
    errors = ((np.arange(ERRORS) + 0.5) / ERRORS)[:, None]
    rates = -np.log1p(-(np.arange(RATES) + 0.5) / RATES)[None] * math.log(2) / horizon

    # Likelihood: hits among `count` images. They may be a fraction, since a recall is a mean over classifiers.
    wrong = np.clip(errors[..., None] * np.exp(-rates[..., None] * images), SMALLEST, 1 - SMALLEST)
    logs = (count * ((1 - recall) * np.log(wrong) + recall * np.log1p(-wrong))).sum(2)
    weights = np.exp(logs - logs.max())
    gains = rates * errors * np.exp(-rates * images[-1])
    return (weights / weights.sum()).ravel(), gains.ravel()


def estimate_yields(history: History) -> Floats:
    """Return the expected kept images per drawn image, [K]: the mean of a Beta distribution with a uniform prior."""
    # A class without images has the mean of the prior, one half.
    kept, drawn = np.asarray(history.total_kept, np.float64), np.asarray(history.total_drawn, np.float64)
    expected: Floats = (kept + 1) / (drawn + 2)
    return expected


def _sum_rounds(counts: Sequence[Sequence[int]], classes: int) -> list[int]:
    return [sum(own[each] for own in counts) for each in range(classes)]
