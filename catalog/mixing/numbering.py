"""Give the classes of several datasets one numbering, by their names."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.schemas.documents.shown import show
from tailforge.schemas.errors import ReadingError
from tailforge.schemas.settings.fields import look

IGNORE = 255  # value of masks


@dataclass(frozen=True)
class Numbering:
    """The mix's number per class of a dataset, int64 [class], and its value per value of masks, uint8 [256]."""

    classes: NDArray[np.int64]
    values: NDArray[np.uint8]

    def renumber_mask(self, mask: Image.Image) -> Image.Image:
        """Return a mask [height, width] with the mix's values and its own palette."""
        if np.array_equal(self.values, np.arange(256)):
            return mask
        renumbered = Image.fromarray(self.values[np.asarray(mask)])
        if mask.mode == "P" and (palette := mask.getpalette()):
            renumbered.putpalette(palette)
        return renumbered


def match_classes(origin: str, names: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of each name in `known`, int64 [len(names)]; upper case does not count.

    Errors: ReadingError naming the names that are unknown.
    """
    numbers = {look(name): number for number, name in enumerate(known)}
    unknown = [name for name in names if look(name) not in numbers]
    if unknown:
        near = {each for name in unknown for each in difflib.get_close_matches(name, known, n=1)}
        hint = f" (did you mean {', '.join(map(show, sorted(near)))}?)" if near else ""
        raise ReadingError(
            f"{origin} has classes that the mix does not know: {_join(unknown)}{hint}; the mix has {_join(known)}. "
            "Rename them, or give all classes by classes="
        )
    return np.array([numbers[look(name)] for name in names], np.int64)


def number_dataset(classes: NDArray[np.int64], categories: Sequence[str], mixed: Sequence[str]) -> Numbering:
    """Return the numbering of a dataset with `categories` of masks in a mix with the categories `mixed`.

    `classes`: the mix's number per class, int64 [class]. Values without a category become 255 (ignore); the background
    stays 0.
    """
    values = np.full(256, IGNORE, np.uint8)
    values[0] = 0
    numbers = {look(name): number for number, name in enumerate(mixed, 1)}
    for value, name in enumerate(categories, 1):
        values[value] = numbers.get(look(name), IGNORE)
    return Numbering(classes, values)


def join_categories(classes: Sequence[str], others: Iterable[str]) -> tuple[str, ...]:
    """Return the categories of a mix: its classes, then further names. At most 254 have a value in masks."""
    seen = {look(name): name for name in classes}
    for name in others:
        seen.setdefault(look(name), name)
    return tuple(seen.values())[: IGNORE - 1]


def _join(names: Sequence[str]) -> str:
    return ", ".join(map(show, names))
