"""List the sets of patches to solve for, and turn their features into components.

The name of a set says what it drops: bit b of `dropped` means that patch b of the n analysed ones is not demanded. So
u(N \\ T) has the name T. If every T is solved (arXiv 2410.04421):

    Df(T) = - sum over T' in T of (-1)^(|T| - |T'|) u(N \\ T'),      T not empty

One pass per patch computes this in place, with n 2^(n - 1) vector subtractions. Components of at most k patches need
only sets that drop at most k patches. This is our way to analyse whole images.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def list_dropped(players: int, order: int | None) -> list[int]:
    """Return what each set drops: all 2^n in the order of their bits, or at most `order` patches, small sets first."""
    if order is None or order >= players:
        return list(range(2**players))
    return [sum(1 << b for b in drop) for size in range(order + 1) for drop in combinations(range(players), size)]


def count_dropped(players: int, order: int | None) -> int:
    """Return the number of sets of `list_dropped`, without making them."""
    if order is None or order >= players:
        return int(2**players)
    return sum(comb(players, size) for size in range(order + 1))


def bits_of(number: int) -> list[int]:
    """Return the positions of the bits of a set, lowest first."""
    return [bit for bit in range(number.bit_length()) if number >> bit & 1]


def subsets_of(number: int) -> list[int]:
    """Return every subset of a set except the set itself."""
    # (part - 1) & number walks all subsets in falling order.
    found, part = [], number
    while part:
        part = (part - 1) & number
        found.append(part)
    return found


def to_components(features: Tensor, dropped: Sequence[int]) -> Tensor:
    """Turn u(N \\ T) [sets, ...], ordered as in `list_dropped`, into u(N) followed by Df(T), in the same memory."""
    # All sets: Moebius transform, one difference per patch over halves of the table.
    if is_complete(dropped):
        for bit in range(len(dropped).bit_length() - 1):
            halves = split_bit(features, bit)
            halves[:, 1] -= halves[:, 0]
        features[1:].neg_()
        return features

    # Some sets: subtract the components of all proper subsets from each feature's difference.
    row_of = {name: row for row, name in enumerate(dropped)}
    for name in dropped[1:]:  # small sets first, so the components of every subset are there already
        row = row_of[name]
        features[row].neg_().add_(features[0])
        for part in subsets_of(name):
            if part:
                features[row] -= features[row_of[part]]
    return features


def to_features(components: Tensor, dropped: Sequence[int]) -> Tensor:
    """Invert `to_components` [sets, ...] in the same memory: u(N \\ T) = u(N) - sum of Df over the subsets of T."""
    # The same steps with opposite signs, in opposite order.
    if is_complete(dropped):
        components[1:].neg_()
        for bit in range(len(dropped).bit_length() - 1):
            halves = split_bit(components, bit)
            halves[:, 1] += halves[:, 0]
        return components

    # Some sets: add up the components of all subsets.
    row_of = {name: row for row, name in enumerate(dropped)}
    for name in reversed(dropped[1:]):  # large sets first: what they read is still a component
        row = row_of[name]
        components[row].neg_().add_(components[0])
        for part in subsets_of(name):
            if part:
                components[row] -= components[row_of[part]]
    return components


def worst_used(residuals: NDArray[np.float64], dropped: Sequence[int]) -> NDArray[np.float64]:
    """Return per T, [sets], the largest residual of the sets that Df(T) is computed from: all N \\ T' with T' in T."""
    row_of = {name: row for row, name in enumerate(dropped)}
    worst = residuals.copy()
    # Small sets first: the worst of T's subsets is the worst of those with one patch less.
    for name in sorted(dropped, key=int.bit_count):
        for bit in bits_of(name):
            worst[row_of[name]] = max(worst[row_of[name]], worst[row_of[name & ~(1 << bit)]])
    return worst


def is_complete(dropped: Sequence[int]) -> bool:
    """Return whether these are all subsets, in the order of their bits."""
    # A power of two, with the full set as last name.
    count = len(dropped)
    return count & (count - 1) == 0 and dropped[-1] == count - 1


def split_bit(table: Tensor, bit: int) -> Tensor:
    """Return a view of rows named by bits as [higher bits, this bit, lower bits, ...]."""
    return table.view(-1, 2, 1 << bit, *table.shape[1:])
