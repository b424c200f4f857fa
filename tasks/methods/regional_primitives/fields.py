"""Measure what a component draws: the change of the image if it is added to the baseline or removed from the whole.

    added   = g(f0 + Df) - x0        deleted = x - g(f - Df)

They agree only where g is nearly linear, so both are measured. The nominal field of a component is its set of patches.
Its real field is where the image does change (arXiv 2410.04421); the thresholds are our own choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.tasks.methods.regional_primitives.decompose import Decomposition
from tailforge.tasks.methods.regional_primitives.demands import Subject
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid, mask_patches

REAL = 0.05  # share of the energy in the patch that a component changes most


@dataclass(frozen=True)
class Effects:
    """Changes of the image by components, [K, 3, H, W] each, and the components' nominal fields [K, P]."""

    grid: PatchGrid
    added: Tensor
    deleted: Tensor
    nominal: NDArray[np.bool_]


@torch.no_grad()
def measure_effects(subject: Subject, found: Decomposition, chosen: Sequence[int], batch: int = 16) -> Effects:
    """Return the changes of the image [K, 3, H, W] by the chosen components, computed `batch` components at a time."""
    # Start from empty tensors, so that no chosen component gives [0, 3, H, W].
    image, origin = found.drawn.image, found.drawn.origin
    added, deleted = [image[:0]], [image[:0]]
    for start in range(0, len(chosen), batch):
        change = found.changes[torch.as_tensor(list(chosen[start : start + batch]))]
        # Once added alone to the baseline, once removed alone from the whole.
        added.append(subject.tail(subject.baseline + change) - origin)
        deleted.append(image - subject.tail(subject.feature - change))
    nominal = mask_patches(found.grid, [found.fields[k] for k in chosen])
    return Effects(found.grid, torch.cat(added), torch.cat(deleted), nominal)


def patch_energies(grid: PatchGrid, changes: Tensor) -> NDArray[np.float64]:
    """Return the squared change of every patch, [K, P], of changes [K, 3, H, W]."""
    # Squared change of a pixel over its colours, summed over each patch.
    energies: NDArray[np.float64] = grid.pool(changes.square().sum(1)).double().cpu().numpy()
    return energies


def real_fields(grid: PatchGrid, changes: Tensor, share: float = REAL) -> NDArray[np.bool_]:
    """Return the patches [K, P] with more than `share` of the energy of the patch that changes most."""
    energies = patch_energies(grid, changes)
    fields: NDArray[np.bool_] = energies > share * energies.max(1, keepdims=True)
    return fields


def containment(grid: PatchGrid, changes: Tensor, nominal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of each change's energy inside its nominal field, [K]; 0 if nothing changes."""
    energies = patch_energies(grid, changes)
    whole = energies.sum(1)
    shares: NDArray[np.float64] = np.divide(
        (energies * nominal).sum(1), whole, out=np.zeros_like(whole), where=whole > 0
    )
    return shares


def overlap(real: NDArray[np.bool_], nominal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the intersection over union of real and nominal fields, [K]."""
    # A component without any field gets 0.
    union = (real | nominal).sum(1)
    ratios: NDArray[np.float64] = (real & nominal).sum(1) / np.maximum(union, 1)
    return ratios
