"""Group photographs that belong in one split: by a column, by a pattern of file names, and with their twins."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.errors import ImagesError

Numbers = NDArray[np.int64]


def read_pattern(pattern: str) -> re.Pattern[str]:
    """Return the compiled pattern. Errors: ImagesError for one that is invalid or has no group in parentheses."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ImagesError(
            f"--group-pattern {pattern!r:.80} is no regular expression: {error}; write one such as '^([^_]+)_'"
        ) from error
    if compiled.groups != 1:
        raise ImagesError(
            f"--group-pattern {pattern!r:.80} has {compiled.groups} groups in parentheses; put one around the part of "
            "the file name that names the group, as in '^([^_]+)_'"
        )
    return compiled


def match_groups(ids: Sequence[str], pattern: re.Pattern[str]) -> tuple[str | None, ...]:
    """Return the part of each file name that the pattern finds; None for a name that it does not fit.

    Errors: ImagesError if it fits no name.
    """
    found = [pattern.search(each.rpartition("/")[2]) for each in ids]
    groups = tuple(None if match is None else match[1] for match in found)
    if not any(groups):
        raise ImagesError(
            f"--group-pattern {pattern.pattern!r:.80} fits no file name, such as {ids[0].rpartition('/')[2]!r:.80}; "
            "change the pattern, or leave it out"
        )
    return groups


def join_blocks(count: int, groups: Sequence[str | None], sets: Iterable[Sequence[int]]) -> Numbers:
    """Return the block of each photograph, int64 [count]: those of one group or one of `sets` share a block.

    `sets`: photographs that must stay together, such as twins. Blocks are numbered from 0 in the order of their first
    photograph.
    """
    parents = list(range(count))

    def root(place: int) -> int:
        """Return the first photograph of a block, and shorten the way to it."""
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    def join(members: Sequence[int]) -> None:
        """Give all members the block of the first of them."""
        for one, other in pairwise(members):
            low, high = sorted((root(one), root(other)))
            parents[high] = low

    own: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        if group is not None:
            own.setdefault(group, []).append(place)
    for members in (*own.values(), *sets):
        join(members)
    return np.unique([root(place) for place in range(count)], return_inverse=True)[1].astype(np.int64)
