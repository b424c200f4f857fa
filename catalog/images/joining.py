"""Join several files of one source, such as shards or splits, into one set of images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.pixels import Chain
from tailforge.catalog.images.records import Found
from tailforge.schemas.errors import ImagesError

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """The images of one file, and the rows of it that can be used. `name` begins the ids of its images."""

    name: str
    found: Found
    rows: NDArray[np.int64]
    split: str | None = None


def join_parts(origin: str, parts: Sequence[Part]) -> tuple[Found, NDArray[np.int64]]:
    """Return all parts as one source, and its rows that can be used. A part's split counts where it tells none itself.

    Errors: ImagesError for parts with different categories, or with a split in some of them only.
    """
    counts = [len(part.found.ids) for part in parts]
    starts = np.array([0, *accumulate(counts)], np.int64)
    first = next((part.found for part in parts if part.found.categories), parts[0].found)
    if any(part.found.categories not in ((), first.categories) for part in parts):
        raise ImagesError(f"{origin}: its files name different categories; give each file alone")

    splits = _join_column(parts, lambda part: part.found.splits or (part.split and [part.split] * len(part.found.ids)))
    if splits is not None and None in splits:
        lost = next(part.name for part in parts if not part.found.splits and not part.split)
        raise ImagesError(f"{origin}: the name of {lost} tells no split, and others do; name all files after a split")

    found = Found(
        kind=first.kind,
        origin=origin,
        ids=[each if len(parts) == 1 else f"{part.name}/{each}" for part in parts for each in part.found.ids],
        places=[place for part in parts for place in part.found.places],
        pixels=Chain([(part.found.pixels, count) for part, count in zip(parts, counts, strict=True)]),
        labels=_join_column(parts, lambda part: part.found.labels),
        splits=splits,
        groups=_join_column(parts, lambda part: part.found.groups),
        captions=_join_column(parts, lambda part: part.found.captions),
        absent=first.absent,
        unlabelled=first.unlabelled,
        categories=first.categories,
        instances=_dispatch(starts, [part.found.instances for part in parts]),
        mask=_dispatch(starts, [part.found.mask for part in parts]),
    )
    return found, np.concatenate([part.rows + start for part, start in zip(parts, starts, strict=False)])


def _join_column(
    parts: Sequence[Part], column: Callable[[Part], Sequence[str | None] | str | None]
) -> list[str | None] | None:
    """Return a column of all parts; None if no part has it."""
    columns = [column(part) or None for part in parts]
    if not any(columns):
        return None
    filled = [own or [None] * len(part.found.ids) for own, part in zip(columns, parts, strict=True)]
    return [value for own in filled for value in own]


def _dispatch(starts: NDArray[np.int64], functions: Sequence[Callable[[int], T]]) -> Callable[[int], T]:
    """Return a function of a row of the whole that calls the function of the row's part."""

    def call(row: int) -> T:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        return functions[part](row - int(starts[part]))

    return call
