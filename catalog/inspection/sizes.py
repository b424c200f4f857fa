"""Summarise the sizes and channels of photographs, and choose how they are brought to a generator's size."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from tailforge.schemas.settings.fields import Fit
from tailforge.schemas.training.generator import PixelNetwork

NEAR = 1.1  # largest ratio of two aspects that counts as one; our choice
SMALL, STEP = 64, 8  # longest side of small photographs, and what both sides of a network are multiples of
COMMON = 0.9  # share of photographs with the most common aspect from which stretching keeps them comparable

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Sizes:
    """Sizes (width, height) and channels (1 grey, 3 colour) by falling number of photographs."""

    sizes: tuple[tuple[Size, int], ...]
    channels: tuple[tuple[int, int], ...]

    @property
    def common(self) -> Size:
        """Return the most common size (width, height)."""
        return self.sizes[0][0]

    @property
    def aspects(self) -> tuple[tuple[Size, int], ...]:
        """Return aspects, reduced to lowest terms, by falling number of photographs."""
        found: Counter[Size] = Counter()
        for size, count in self.sizes:
            found[_reduce(size)] += count
        return tuple(found.most_common())

    @property
    def is_grey(self) -> bool:
        """Return whether all photographs are grey."""
        return [channels for channels, _ in self.channels] == [1]

    def choose_fit(self, size: Size) -> Fit:
        """Return how the photographs are brought to a generator's `size` (width, height).

        exact: all have that size. crop: most have its aspect, or they differ among themselves. stretch: they have
        another aspect in common.
        """
        if all(each == size for each, _ in self.sizes):
            return "exact"
        (aspect, count), *_ = self.aspects
        total = sum(number for _, number in self.sizes)
        ratio = aspect[0] * size[1] / (aspect[1] * size[0])
        return "stretch" if count >= COMMON * total and max(ratio, 1 / ratio) > NEAR else "crop"


def choose_network(sizes: Sizes) -> PixelNetwork | None:
    """Return a new network that draws at the photographs' size; None if they are not small.

    Its sides are multiples of STEP, so that the aspect of the photographs may change a little, by NEAR at most.
    """
    width, height = sizes.common
    if max(width, height) > SMALL:
        return None
    sides = [max(2 * STEP, -(-side // STEP) * STEP) for side in (height, width)]
    ratio = sides[0] * width / (sides[1] * height)
    return PixelNetwork(height=sides[0], width=sides[1], grey=sizes.is_grey) if max(ratio, 1 / ratio) <= NEAR else None


def summarise_sizes(shown: Sequence[tuple[int, int, int]]) -> Sizes:
    """Return the summary of width, height and channels per photograph."""
    sizes = Counter((width, height) for width, height, _ in shown)
    channels = Counter(each for _, _, each in shown)
    return Sizes(tuple(sizes.most_common()), tuple(channels.most_common()))


def _reduce(size: Size) -> Size:
    divisor = gcd(*size)
    return size[0] // divisor, size[1] // divisor
