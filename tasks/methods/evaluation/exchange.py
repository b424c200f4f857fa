"""Compute the exchange rate: how many further real images of the rare classes give the gain of a version.

The definition is ours. A learning curve holds the recall of rare classes of one real arm by the number of real images.
The version is worth as many real images as the curve needs to reach the recall of arm `mixed`. The interval holds
every number at which Student's 95 % interval of the paired differences between arm and curve contains 0.

Letters of shapes: S seeds, P points of the curve, N numbers of images, I images, K classes, M chosen images.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.intervals import student_interval

CURVE_STREAM = 23  # separates the choice of images from all other random numbers
ADDED_SHARES = (0.125, 0.25, 0.5, 1.0)  # of the held-back images
KEPT_SHARES = (0.25, 0.5)  # of the training images, without held-back ones
MOST_NUMBERS = 2000  # of images at which arm and curve are compared
DOUBLINGS = 1.0  # beyond its end to which a curve of fewer images is continued

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Worth:
    """Numbers of further real images; None: not reached on the curve, which ends at `last`.

    `low` and `high`: the 95 % interval over seeds. `extrapolated`: whether the curve was continued beyond its points.
    """

    value: int | None
    low: int | None
    high: int | None
    last: int
    extrapolated: bool

    def per_hundred(self, synthetic: int) -> dict[str, float | None]:
        """Return the numbers for 100 of `synthetic` images, for which all of them stand."""
        told = {key: value for key, value in asdict(self).items() if key != "extrapolated"}
        return {key: None if value is None else round(100 * value / synthetic, 2) for key, value in told.items()}


def choose_share(shown: NDArray[np.bool_], classes: Sequence[int], share: float, seed: int) -> Rows:
    """Return the rows [M] of a share of each class's images, at least one. `shown` [I, K]: as of `Examples`.

    A smaller share is a part of a larger one with the same seed.
    """
    # One order of images per class and seed.
    parts = [np.empty(0, np.int64)]
    for each in classes:
        own = np.flatnonzero(shown[:, each])
        order = np.random.default_rng((seed, CURVE_STREAM, each)).permutation(own)
        parts.append(order[: int(np.ceil(share * len(own)))])
    return np.unique(np.concatenate(parts))


def measure_worth(images: Sequence[int], curve: Floats, start: int, own: Sequence[float]) -> Worth:
    """Return what a version is worth in further real images of rare classes.

    `images` [P]: rising numbers of real images of rare classes. `curve` [S, P]: recall of rare classes of the real arm.
    `start`: the number of images of arm `mixed`, one of `images`. `own` [S]: its recall. A curve that ends at `start`
    is continued. Errors: ValueError without two points or two seeds.
    """
    if len(images) < 2 or len(own) < 2:
        raise ValueError("a curve needs two points and two seeds")

    # Compare arm and curve at every number of images, seed by seed.
    extrapolated = images[-1] == start
    last = round((1 + start) * 2**DOUBLINGS) - 1 if extrapolated else images[-1]
    numbers = np.unique(np.linspace(start, last, min(MOST_NUMBERS, last - start + 1)).round().astype(np.int64))
    places, wanted = np.log2(1 + np.asarray(images, np.float64)), np.log2(1 + numbers.astype(np.float64))
    found = _continue(places, curve, wanted) if extrapolated else _interpolate(places, curve, wanted)
    apart = np.asarray(own, np.float64)[:, None] - found

    # The version is worth the first number at which the arm is no longer better than the curve.
    bounds = np.array([student_interval(column.tolist()) for column in apart.T])
    value, low, high = (_first_below(numbers - start, each) for each in (apart.mean(0), bounds[:, 0], bounds[:, 1]))
    return Worth(value, low, high, last - start, extrapolated)


def _interpolate(places: Floats, curve: Floats, wanted: Floats) -> Floats:
    """Return the recall [S, N] between the points, linear in the logarithm of the number of images."""
    return np.stack([np.interp(wanted, places, each) for each in curve])


def _continue(places: Floats, curve: Floats, wanted: Floats) -> Floats:
    """Return the recall [S, N] beyond the last point: from there on with the slope of the least squares line."""
    # The slope per seed: covariance over variance.
    centred = places - places.mean()
    slopes = curve @ centred / (centred @ centred)
    beyond: Floats = curve[:, -1:] + slopes[:, None] * (wanted - places[-1])
    return beyond


def _first_below(numbers: Rows, values: Floats) -> int | None:
    """Return the first number whose value is at most 0; None without one. Rounding makes equal recalls equal."""
    at = np.flatnonzero(np.round(values, 9) <= 0)
    return int(numbers[at[0]]) if len(at) else None
