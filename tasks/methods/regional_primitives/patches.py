"""The patches that an image is analysed in, and which of them are worth analysing.

The grid of 6 x 6 is the paper's (arXiv 2410.04421). Taking every patch that changes, rather than nine at random, is our
own choice: a random choice makes the result depend on the draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.errors import ExplanationError

FLAT = 0.02  # a patch that changes less than this share of the one that changes most is left out


@dataclass(frozen=True)
class PatchGrid:
    """An image of height x width pixels in rows x columns patches, numbered line by line.

    Errors: ExplanationError for more rows or columns than pixels.
    """

    rows: int
    columns: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if not (1 <= self.rows <= self.height and 1 <= self.columns <= self.width):
            raise ExplanationError(
                f"a grid of {self.rows} x {self.columns} patches does not fit an image of {self.height} x {self.width} "
                "pixels; take at least one patch and at most one a pixel"
            )

    @property
    def count(self) -> int:
        return self.rows * self.columns

    def numbers(self) -> Tensor:
        """The patch of every pixel, int64 [H, W]."""
        down = torch.arange(self.height) * self.rows // self.height
        right = torch.arange(self.width) * self.columns // self.width
        return down[:, None] * self.columns + right[None]

    def pool(self, pixels: Tensor) -> Tensor:
        """Sums over patches [B, P] of a map [B, H, W]."""
        numbers = self.numbers().flatten().to(pixels.device)
        return pixels.new_zeros(len(pixels), self.count).index_add_(1, numbers, pixels.flatten(1))

    def spread(self, values: Tensor) -> Tensor:
        """A value a patch [B, P] as a map [B, H, W]."""
        return values[:, self.numbers().to(values.device)]

    def describe(self, patch: int) -> str:
        return f"row {patch // self.columns + 1}, column {patch % self.columns + 1}"


def square_change(images: Tensor, origin: Tensor) -> Tensor:
    """Squared difference summed over colours, [B, H, W], of images [B, 3, H, W]."""
    return (images - origin).square().sum(1)


def choose_players(energies: Tensor, limit: int) -> tuple[int, ...]:
    """The patches to analyse: those that change at all, the strongest `limit` of them, in the grid's order.

    `energies` [P]: |P_i (x - x0)|^2 of each patch. Errors: ExplanationError where nothing changes.
    """
    norms = energies.sqrt()
    if float(norms.max()) == 0:
        raise ExplanationError("the feature draws the same image as the baseline; there is nothing to explain")
    changing = [
        int(patch) for patch in norms.argsort(descending=True, stable=True) if norms[patch] >= FLAT * norms.max()
    ]
    return tuple(sorted(changing[:limit]))


def mask_patches(grid: PatchGrid, fields: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Sets of patches as rows of a table [K, P]."""
    table = np.zeros((len(fields), grid.count), dtype=bool)
    for row, field in enumerate(fields):
        table[row, list(field)] = True
    return table


def shrink_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A pixel mask [B, H, W] on the cells of a feature [B, 1, h, w]: a cell is on where any pixel of it is."""
    return functional.adaptive_max_pool2d(mask[:, None], size)
