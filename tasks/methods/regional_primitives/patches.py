"""Cut an image into patches and choose the patches worth analysing.

The grid of 6 x 6 is the paper's (arXiv 2410.04421). The paper takes nine patches at random. Our own choice is every
patch that changes, because a random choice makes the result depend on the draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.errors import ExplanationError

FLAT = 0.02  # a patch counts as changing from this share of the strongest patch's change


@dataclass(frozen=True)
class PatchGrid:
    """An image of height x width pixels, cut into rows x columns patches and numbered line by line.

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
        """Return the number of patches, P."""
        return self.rows * self.columns

    def numbers(self) -> Tensor:
        """Return the patch of every pixel, int64 [H, W]."""
        # Integer division shares the pixels out evenly if the grid does not divide the image.
        down = torch.arange(self.height) * self.rows // self.height
        right = torch.arange(self.width) * self.columns // self.width
        return down[:, None] * self.columns + right[None]

    def pool(self, pixels: Tensor) -> Tensor:
        """Sum a map [B, H, W] over patches: [B, P]."""
        # Add every pixel to the sum of its patch.
        numbers = self.numbers().flatten().to(pixels.device)
        return pixels.new_zeros(len(pixels), self.count).index_add_(1, numbers, pixels.flatten(1))

    def spread(self, values: Tensor) -> Tensor:
        """Spread one value per patch, [B, P], to a map [B, H, W]."""
        return values[:, self.numbers().to(values.device)]

    def describe(self, patch: int) -> str:
        """Return the row and column of a patch in words, counted from 1."""
        return f"row {patch // self.columns + 1}, column {patch % self.columns + 1}"


def square_change(images: Tensor, origin: Tensor) -> Tensor:
    """Return the squared difference summed over colours, [B, H, W], of images [B, 3, H, W] from `origin`."""
    return (images - origin).square().sum(1)


def choose_players(energies: Tensor, limit: int) -> tuple[int, ...]:
    """Return the patches to analyse: the strongest `limit` of the changing patches, in the grid's order.

    `energies` [P]: |P_i (x - x0)|^2 of each patch. Errors: ExplanationError if nothing changes.
    """
    norms = energies.sqrt()
    if float(norms.max()) == 0:
        raise ExplanationError("the feature draws the same image as the baseline; there is nothing to explain")
    # Strongest first, equal patches in the grid's order; almost still patches are left out.
    changing = [
        int(patch) for patch in norms.argsort(descending=True, stable=True) if norms[patch] >= FLAT * norms.max()
    ]
    return tuple(sorted(changing[:limit]))


def mask_patches(grid: PatchGrid, fields: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Return sets of patches as rows of a table [K, P]."""
    # One row per set.
    table = np.zeros((len(fields), grid.count), dtype=bool)
    for row, field in enumerate(fields):
        table[row, list(field)] = True
    return table


def shrink_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrink a pixel mask [B, H, W] to the cells of a feature [B, 1, h, w]; one pixel turns its whole cell on."""
    return functional.adaptive_max_pool2d(mask[:, None], size)
