"""Score what is wrong with a region: a differentiable score that a repair lowers. All choices are ours.

There are two kinds. `score_artifacts` measures how badly the generator's own autoencoder reproduces the region: its
decoder does not draw what it cannot reproduce. AEROBLADE (arXiv 2401.17879) detects generated images by this error;
here it is used within one image. `score_gate` measures how far a quality score of the whole image misses the bound of a
gate.

Scores of light and sharpness equal those of tasks/methods/quality/pixel_scores, written for tensors.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.regional_primitives.repair import Defect

Measure = Callable[[Tensor], Tensor]  # images [B, 3, H, W] in -1..1 to scores [B]; differentiable

WORST = 0.25  # share of the patches to blame if no single one misses the bound
LUMA = (0.299, 0.587, 0.114)


def score_artifacts(reconstruct: Callable[[Tensor], Tensor], region: Tensor) -> Defect:
    """Return a score: mean squared difference, inside the region [H, W], of an image and its reconstruction."""

    def defect(images: Tensor) -> Tensor:
        # Pixels that the decoder cannot reproduce differ from their reconstruction.
        inside = region.to(images.device)
        errors: Tensor = (images - reconstruct(images))[..., inside].square().mean((1, 2))
        return errors

    return defect


def score_gate(measure: Measure, bound: float, side: str) -> Defect:
    """Return a score: how far `measure` misses a bound, as a share of it (`side` "low" or "high"); 0 if it passes."""
    sign = 1.0 if side == "low" else -1.0

    def defect(images: Tensor) -> Tensor:
        # Past the bound: positive. A passed gate gives neither loss nor gradient.
        return (sign * (bound - measure(images))).clamp_min(0) / max(abs(bound), 1e-6)

    return defect


def to_luma(images: Tensor) -> Tensor:
    """Return the ITU-R BT.601 luma [B, H, W] in 0..255 of images [B, 3, H, W] in -1..1."""
    # -1..1 to 0..255, weighted by colour.
    weights = images.new_tensor(LUMA).view(1, 3, 1, 1)
    return ((images.clamp(-1, 1) + 1) * 127.5 * weights).sum(1)


def laplace(luma: Tensor) -> Tensor:
    """Return the 4-neighbour Laplacian of the inner pixels, [B, H - 2, W - 2], of luma [B, H, W]."""
    # Sum of the four neighbours, less four times the centre.
    across = luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + across - 4 * luma[:, 1:-1, 1:-1]


def measure_brightness(images: Tensor) -> Tensor:
    """Return the mean luma, 0..1, of images [B, 3, H, W] in -1..1: [B]."""
    return to_luma(images).mean((1, 2)) / 255


def measure_contrast(images: Tensor) -> Tensor:
    """Return the standard deviation of the luma, as a share of white, of images [B, 3, H, W]: [B]."""
    return to_luma(images).std((1, 2), correction=0) / 255


def measure_sharpness(images: Tensor) -> Tensor:
    """Return the variance of the Laplacian of the luma of images [B, 3, H, W]: [B]."""
    return laplace(to_luma(images)).var((1, 2), correction=0)


PIXEL_MEASURES: dict[str, Measure] = {
    "brightness": measure_brightness,
    "contrast": measure_contrast,
    "sharpness": measure_sharpness,
}


@torch.no_grad()
def blame_patches(
    grid: PatchGrid, image: Tensor, gate: str, bound: float, side: str, mask: NDArray[np.bool_] | None
) -> Tensor:
    """Return the patches that make an image [1, 3, H, W] miss a gate of light or sharpness, as a region [H, W].

    These are the patches that miss the bound themselves. If there is a concept's mask, only patches that meet it count.
    If no patch misses the bound, the worst quarter is blamed. Errors: ExplanationError for a gate that no patch can
    cause.
    """
    if gate not in PIXEL_MEASURES:
        raise ExplanationError(
            f"no part of the image can be blamed for gate {gate!r}, only for {', '.join(PIXEL_MEASURES)}; name the "
            "region by --box or --mask"
        )

    # Measure every patch alone; a mask of the concept limits the candidates.
    numbers, sign = grid.numbers(), 1.0 if side == "low" else -1.0
    scores = np.array([_measure_patch(image, numbers == patch, gate) for patch in range(grid.count)])
    candidates = np.ones(grid.count, dtype=bool)
    if mask is not None and mask.any():
        candidates = grid.pool(torch.from_numpy(mask)[None].double())[0].numpy() > 0

    # Blame the patches past the bound, or else the worst quarter.
    missed = candidates & (sign * scores < sign * bound)
    if not missed.any():
        order = np.argsort(np.where(candidates, sign * scores, np.inf), kind="stable")
        missed[order[: max(1, round(WORST * candidates.sum()))]] = True
    return torch.isin(numbers, torch.from_numpy(np.flatnonzero(missed)))


def _measure_patch(image: Tensor, inside: Tensor, gate: str) -> float:
    """Score one patch alone; a Laplacian needs 3 x 3 pixels, so a smaller patch has sharpness 0."""
    # Cut the patch out along its first and last row and column.
    rows, columns = (torch.nonzero(inside.any(axis))[:, 0] for axis in (1, 0))
    patch = image[..., int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    if gate == "sharpness" and min(patch.shape[-2:]) < 3:
        return 0.0
    return float(PIXEL_MEASURES[gate](patch))
