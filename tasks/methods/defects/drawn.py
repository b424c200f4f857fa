"""Check what defects are drawn into, and composite what was drawn.

Letters of shapes: H and W rows and columns of the photograph.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Drawn:
    """An image [H, W, 3] uint8, and the mask [H, W] of the pixels that differ from those of the photograph.

    `copied`: number of the reference whose defect it shows, if it shows one.
    """

    image: Pixels
    mask: Mask
    copied: int | None = None


def check_region(source: Pixels, region: Mask) -> None:
    """Check a photograph [H, W, 3] and a region [H, W] to draw into. Errors: ValueError."""
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
        raise ValueError(f"photograph has the shape {source.shape} of {source.dtype}; give [H, W, 3] of uint8")
    if region.dtype != np.bool_ or region.shape != source.shape[:2]:
        raise ValueError(f"region has the shape {region.shape} of {region.dtype}; give {source.shape[:2]} of bool")
    if not region.any():
        raise ValueError("region has no pixel; give one with at least one")


def composite(source: Pixels, drawn: NDArray[np.floating[Any]], region: Mask) -> Drawn:
    """Return what was drawn [H, W, 3], in 0 to 255, inside the region [H, W] of a photograph [H, W, 3]."""
    # Round to 8 bits inside, and keep every byte outside.
    rounded = np.clip(np.rint(drawn), 0, 255).astype(np.uint8)
    image = np.where(region[:, :, None], rounded, source)
    return Drawn(image, (image != source).any(axis=2))
