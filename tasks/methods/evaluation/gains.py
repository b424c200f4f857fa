"""Summarise figures over paired seeds: means with intervals, and the gain of one arm over another.

Both intervals are Student's over seeds. They cover other seeds, and no other choice of test images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailforge.tasks.methods.intervals import student_interval

DIGITS = 6  # of every figure in a record


@dataclass(frozen=True)
class Figure:
    """A mean over seeds with its 95 % interval; `low` and `high` are None with one seed."""

    value: float | None
    low: float | None
    high: float | None


def summarise_seeds(values: Sequence[float]) -> Figure:
    """Return the mean of a figure over seeds with its interval; no figure if one of the values is NaN."""
    # NaN stands for a class without images: no figure is better than one of other classes.
    if not values or any(value != value for value in values):
        return Figure(None, None, None)

    # A single seed has a mean and no interval.
    mean = round(float(np.mean(values)), DIGITS)
    if len(values) < 2:
        return Figure(mean, None, None)
    low, high = student_interval(values)
    return Figure(mean, round(low, DIGITS), round(high, DIGITS))


def summarise_shares(values: Sequence[float]) -> Figure:
    """Return `summarise_seeds` of shares, whose interval ends at 0 and 1."""
    # Student's interval knows no bounds.
    found = summarise_seeds(values)
    if found.low is None or found.high is None:
        return found
    return Figure(found.value, max(found.low, 0.0), min(found.high, 1.0))


def paired_gain(own: Sequence[float], other: Sequence[float]) -> Figure:
    """Return the mean difference of two arms seed by seed, with the interval of the differences.

    Errors: ValueError for different numbers of seeds.
    """
    return summarise_seeds([one - two for one, two in zip(own, other, strict=True)])


def judge_gain(gain: Figure) -> str:
    """Return gain, loss or no difference: the first two only if the whole interval has one sign."""
    if gain.low is not None and gain.low > 0:
        return "gain"
    if gain.high is not None and gain.high < 0:
        return "loss"
    return "no difference"
