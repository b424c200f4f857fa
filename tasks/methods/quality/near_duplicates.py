"""Find near duplicates among 64-bit hashes: exactly, without comparing every pair.

Two hashes that differ in at most r bits agree in at least m - r of m blocks of their bits. So only hashes that agree in
such a choice of blocks are compared: a sorted table per choice (Manku, Jain and Das Sarma, Detecting Near-Duplicates
for Web Crawling, 2007, section 3). More blocks mean more tables, and each table separates more hashes. m = r is a
single table that separates none, so every pair is compared. Our choices: m by expected costs, and which of near hashes
stays.
"""

from functools import cache
from itertools import combinations, pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]

BITS = 64
BLOCK = 256  # hashes compared at once, pair by pair: bounds memory
# Costs, in comparisons of one pair by `_near_in_blocks`, measured on one core.
TABLE_COST = 50_000  # per table, however small
ROW_COST = 60  # per hash in a table: sorted and looked up
LOOK_COST = 10  # per pair that a table finds


def find_near_duplicates(hashes: Hashes, max_distance: int, known: Hashes) -> tuple[Flags, Flags]:
    """Return which hashes are near one of `known`, and which others are near an earlier kept one; bool [hashes] each.

    A hash that is left out excludes no other: of three in a chain, the first and the last stay.
    """
    near_known = find_near(hashes, known, max_distance)
    repeats = np.zeros(len(hashes), np.bool_)
    rest = np.flatnonzero(~near_known)
    # A hash without a near one stays, and does not decide about others.
    values, place, count = np.unique(hashes[rest], return_inverse=True, return_counts=True)
    crowded = rest[(find_near(values, values, max_distance, least=1) | (count > 1))[place]]
    repeats[crowded] = _find_repeats(hashes[crowded], max_distance)
    return near_known, repeats


def find_near(hashes: Hashes, known: Hashes, max_distance: int, least: int = 0) -> Flags:
    """Return which hashes differ from one of `known` in `least` to `max_distance` bits; bool [hashes]."""
    # One table after another; as soon as a table separates too little, compare the remaining pairs directly.
    found = np.zeros(len(hashes), np.bool_)
    for mask in _masks(_choose_blocks(len(hashes), len(known), max_distance), max_distance):
        rest = np.flatnonzero(~found)
        if mask == 0 or not _look_up(hashes, known, mask, (least, max_distance), rest, found):
            found[rest] = _near_in_blocks(hashes[rest], known, (least, max_distance))
            break
    return found


@cache
def _masks(blocks: int, max_distance: int) -> tuple[np.uint64, ...]:
    """Return the masks of the bits that each table sorts by."""
    # Blocks of nearly equal length; a table sorts by all but `max_distance` of them.
    edges = [BITS * number // blocks for number in range(blocks + 1)] if blocks else [0]
    each = [(1 << end) - (1 << start) for start, end in pairwise(edges)]
    return tuple(np.uint64(sum(chosen)) for chosen in combinations(each, max(blocks - max_distance, 0)))


def _choose_blocks(hashes: int, known: int, max_distance: int) -> int:
    """Return the cheapest number of blocks, for evenly spread hashes."""

    def cost(blocks: int) -> float:
        if blocks == max_distance:
            return hashes * known
        # One table per choice of blocks, and the pairs that agree in it by chance.
        tables = comb(blocks, max_distance)
        pairs = hashes * known / 2 ** (BITS * (blocks - max_distance) / blocks)
        return tables * (TABLE_COST + ROW_COST * (hashes + known) + LOOK_COST * pairs)

    return min(range(max_distance, min(max_distance + 9, BITS) + 1), key=cost)


def _look_up(
    hashes: Hashes, known: Hashes, mask: np.uint64, distance: tuple[int, int], rest: NDArray[np.intp], found: Flags
) -> bool:
    """Mark the hashes of `rest` near a known hash with the same bits under the mask.

    Return False and mark nothing if so many share these bits that comparing all pairs is as fast.
    """
    # The table: known hashes sorted by the bits under the mask.
    keys = known & mask
    order = np.argsort(keys)
    keys, values = keys[order], known[order]
    own = hashes[rest] & mask
    order = np.argsort(own)  # sorted, so that the look-up reads memory in order
    rest, own = rest[order], own[order]

    # Each hash has a range of candidates; if there are too many, the table does not pay.
    first, last = np.searchsorted(keys, own, "left"), np.searchsorted(keys, own, "right")
    if LOOK_COST * int((last - first).sum()) > len(rest) * len(known):
        return False

    # Compare one candidate of every hash at a time, until a near one is found or the range is empty.
    while len(rest):
        alive = first < last
        rest, first, last = rest[alive], first[alive], last[alive]
        near = _is_near(hashes[rest], values[first], distance)
        found[rest[near]] = True
        rest, first, last = rest[~near], first[~near] + 1, last[~near]
    return True


def _near_in_blocks(hashes: Hashes, known: Hashes, distance: tuple[int, int]) -> Flags:
    """Compare every pair, in blocks that bound the memory."""
    found = np.zeros(len(hashes), np.bool_)
    for start in range(0, len(hashes), BLOCK):
        block = hashes[start : start + BLOCK, None]
        for other in range(0, len(known), BLOCK):
            found[start : start + BLOCK] |= _is_near(block, known[None, other : other + BLOCK], distance).any(axis=1)
    return found


def _is_near(one: Hashes, other: Hashes, distance: tuple[int, int]) -> Flags:
    # Hamming distance.
    bits = np.bitwise_count(one ^ other)
    near: Flags = (bits >= distance[0]) & (bits <= distance[1])
    return near


def _find_repeats(hashes: Hashes, max_distance: int) -> Flags:
    """Return which hashes are near an earlier kept one: the first half decides about the second, then itself."""
    if len(hashes) <= BLOCK:
        return _find_repeats_in_block(hashes, max_distance)
    # Divide: the kept hashes of the first half exclude some of the second.
    half = len(hashes) // 2
    early, late = hashes[:half], hashes[half:]
    repeats = np.zeros(len(hashes), np.bool_)
    repeats[:half] = _find_repeats(early, max_distance)
    near = find_near(late, early[~repeats[:half]], max_distance)
    repeats[half:] = near
    repeats[half + np.flatnonzero(~near)] = _find_repeats(late[~near], max_distance)
    return repeats


def _find_repeats_in_block(hashes: Hashes, max_distance: int) -> Flags:
    # A hash repeats if an earlier near one was kept, so the rows are decided in order.
    earlier = np.tril(_is_near(hashes[:, None], hashes[None, :], (0, max_distance)), -1)
    repeats = np.zeros(len(hashes), np.bool_)
    for row in np.flatnonzero(earlier.any(axis=1)):
        repeats[row] = (earlier[row] & ~repeats).any()
    return repeats
