"""Trace a region of the image to the components that drew it.

A candidate has at least 60 % of its patches in the region. Candidates are ranked by the energy of their change inside
the region times the share of their change there. So a component that draws much of the region and little else comes
first. Both rules are our own choice.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.fields import Effects
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid

FIELD_SHARE = 0.6  # smallest share of a candidate's patches that meet the region


@dataclass(frozen=True)
class Traced:
    """One candidate: its `row` in the effects, the `energy` of its change in the region, and its `share` there."""

    row: int
    energy: float
    share: float

    @property
    def blame(self) -> float:
        """Return the rank of the candidate: its energy in the region times the share of its change there."""
        return self.energy * self.share


def box_region(grid: PatchGrid, left: int, top: int, right: int, bottom: int) -> Tensor:
    """Return the pixels left <= x < right, top <= y < bottom as a mask [H, W].

    Errors: ExplanationError for a box that is off the image or empty.
    """
    if not (0 <= left < right <= grid.width and 0 <= top < bottom <= grid.height):
        raise ExplanationError(
            f"the region {left},{top},{right},{bottom} (left, top, right, bottom) is off the image or empty; the image "
            f"has {grid.width} x {grid.height} pixels, so it lies within 0,0,{grid.width},{grid.height}"
        )
    # Right and bottom are not part of the box.
    mask = torch.zeros(grid.height, grid.width, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def mask_region(grid: PatchGrid, mask: NDArray[np.bool_]) -> Tensor:
    """Check a given mask [H, W]. Errors: ExplanationError for another size than the image's, or an empty mask."""
    if mask.shape != (grid.height, grid.width):
        raise ExplanationError(
            f"the region's mask has {' x '.join(map(str, mask.shape))} pixels, the image {grid.height} x {grid.width}; "
            "give a mask of the image's size"
        )
    if not mask.any():
        raise ExplanationError("the region's mask is empty; mark at least one pixel")
    return torch.from_numpy(np.ascontiguousarray(mask, dtype=bool))


def trace_region(effects: Effects, region: Tensor) -> list[Traced]:
    """Return the components behind a region [H, W], the most responsible first; none if no field is in it."""
    # Candidates: most of their patches meet the region.
    met = effects.grid.pool(region[None].double())[0].numpy() > 0
    energy, share = split_energy(effects.deleted, region)
    sizes = effects.nominal.sum(1)
    candidates = (effects.nominal & met).sum(1) >= FIELD_SHARE * sizes

    # Rank by blame; equal ones stay in the order of the decomposition.
    found = [Traced(int(row), float(energy[row]), float(share[row])) for row in np.flatnonzero(candidates)]
    return sorted(found, key=lambda each: (-each.blame, each.row))


def split_energy(changes: Tensor, region: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the energy of changes [K, 3, H, W] inside the region, [K], and its share of the total; 0 for no energy."""
    # Double precision: small shares of large sums are compared.
    energies = changes.double().square().sum(1).cpu()
    inside: NDArray[np.float64] = (energies * region).flatten(1).sum(1).numpy()
    whole: NDArray[np.float64] = energies.flatten(1).sum(1).numpy()
    return inside, np.divide(inside, whole, out=np.zeros_like(whole), where=whole > 0)
