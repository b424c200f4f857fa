"""Draw the order of an epoch from groups of samples, in the same way on every machine.

Each position of an epoch first gets a dataset by the shares, then a class of it, then a sample of that class. Every
choice depends on seed, epoch and position alone, so any reader finds its part without the others'.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.errors import ReadingError

FINEST_SHARE = 1000  # largest denominator of a share; thirds and sevenths are exact
CLASSES, SAMPLES = 0, 1  # uses of random numbers, each with its own stream


def read_shares(shares: Sequence[float], datasets: int) -> tuple[Fraction, ...]:
    """Return shares as fractions that sum to 1. Errors: ReadingError for other numbers than one share per dataset."""
    exact = tuple(Fraction(share).limit_denominator(FINEST_SHARE) for share in shares)
    if len(exact) != datasets or min(exact) <= 0 or sum(exact) != 1:
        raise ReadingError(
            f"shares={list(shares)} for {datasets} datasets; give one share above 0 per dataset, with a sum of 1"
        )
    return exact


def interleave(shares: Sequence[Fraction], count: int) -> NDArray[np.int64]:
    """Return the number of a dataset per position, int64 [count], so that every stretch of it holds the shares.

    Each position goes to the dataset that is furthest behind its share. The pattern repeats after the common
    denominator of the shares: a stretch of a multiple of it holds the shares exactly.
    """
    period = int(np.lcm.reduce([share.denominator for share in shares]))
    due = np.array([int(share * period) for share in shares], np.int64)
    behind = np.zeros(len(shares), np.int64)
    pattern = np.empty(period, np.int64)

    # Whole numbers: what each dataset is behind, in parts of a period.
    for position in range(period):
        behind += due
        pattern[position] = np.argmax(behind)
        behind[pattern[position]] -= period
    return np.resize(pattern, count)


def cycle(members: NDArray[np.int64], count: int, stream: Sequence[int]) -> NDArray[np.int64]:
    """Return `count` of the `members` (int64 [M], M above 0): all in random order, then all in another one, and so on.

    `stream`: whole numbers that name the random numbers. Shape int64 [count].
    """
    passes = -(-count // len(members))
    bits = np.random.PCG64(np.random.SeedSequence(list(stream))).random_raw(passes * len(members))
    order = np.argsort(bits.reshape(passes, len(members)), axis=1, kind="stable")
    return members[order].ravel()[:count]


def draw_epoch(
    groups: Sequence[Sequence[NDArray[np.int64]]], shares: Sequence[Fraction], count: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return the samples of an epoch in order, int64 [count].

    `groups`: sample numbers per dataset and class, each int64 [n] with n above 0. A dataset goes through its classes
    in a random order, then in another one. So classes of a dataset differ by one sample at most.
    """
    order = np.empty(count, np.int64)
    owners = interleave(shares, count)
    for dataset, classes in enumerate(groups):
        mine = np.flatnonzero(owners == dataset)
        turns = cycle(np.arange(len(classes)), len(mine), (seed, epoch, CLASSES, dataset))
        for number, members in enumerate(classes):
            places = mine[turns == number]
            order[places] = cycle(members, len(places), (seed, epoch, SAMPLES, dataset, number))
    return order
