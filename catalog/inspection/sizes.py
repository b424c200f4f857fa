"""Summarise the sizes and channels of photographs, and choose how they are brought to another size."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from tailforge.schemas.options import Fit
from tailforge.schemas.training.generator import PixelNetwork

NEAR = 1.1  # largest ratio of two aspects that counts as one; our choice
SMALL, STEP = 64, 8  # longest side of small photographs, and what both sides of a network are multiples of
FAR = 2.0  # ratio of two aspects from which stretching would distort too much; our choice
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
        """Return how the photographs are brought to `size` (width, height).

        exact: all have that size. crop: most have its aspect, or they differ among themselves. stretch: they have
        another aspect in common. pad: that aspect is far from the size's.
        """
        if all(each == size for each, _ in self.sizes):
            return "exact"
        (aspect, count), *_ = self.aspects
        total = sum(number for _, number in self.sizes)
        ratio = aspect[0] * size[1] / (aspect[1] * size[0])
        ratio = max(ratio, 1 / ratio)
        if count < COMMON * total or ratio <= NEAR:
            return "crop"
        return "stretch" if ratio < FAR else "pad"


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


def choose_reading(real: Sizes, drawn: Sizes, bounds: tuple[int, int]) -> tuple[Size, Fit]:
    """Return the size (width, height) at which a network reads real and drawn images, and how they are brought to it.

    It is the real images' own if they have one that the network reads, else that of the drawn ones, scaled into
    `bounds` (least and largest side).
    """
    low, high = bounds
    own = real.common
    if len(real.sizes) == 1 and low <= min(own) and max(own) <= high:
        return own, drawn.choose_fit(own)

    # The aspect stays, unless a side would be too short.
    scale = min(1.0, high / max(drawn.common))
    width, height = (max(low, round(side * scale)) for side in drawn.common)
    return (width, height), choose_common_fit(real, drawn, (width, height))


def choose_common_fit(real: Sizes, drawn: Sizes, size: Size) -> Fit:
    """Return how real and drawn images are brought to `size` (width, height): exact only if all have it."""
    fit = real.choose_fit(size)
    return drawn.choose_fit(size) if fit == "exact" else fit


def summarise_sizes(shown: Sequence[tuple[int, int, int]]) -> Sizes:
    """Return the summary of width, height and channels per photograph."""
    sizes = Counter((width, height) for width, height, _ in shown)
    channels = Counter(each for _, _, each in shown)
    return Sizes(tuple(sizes.most_common()), tuple(channels.most_common()))


def _reduce(size: Size) -> Size:
    divisor = gcd(*size)
    return size[0] // divisor, size[1] // divisor
