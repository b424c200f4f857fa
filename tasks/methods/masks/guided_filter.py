"""The guided filter: smooths a map so that its edges follow those of an image (He, Sun and Tang 2010).

In every window the output is a linear function of the image's colours (equations 14 to 16 of the journal version, IEEE
TPAMI 2013, in colour), fitted to the map by ridge regression:

    a = (cov(I) + eps U)^-1 cov(I, p),   b = mean(p) - a . mean(I),   q = mean(a) . I + mean(b)

The coefficients are found on a small copy of the image and brought to its size afterwards (Fast Guided Filter, He and
Sun 2015, arXiv 1505.00996), so the cost hardly grows with the image.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]


def filter_guided(soft: Floats, pixels: Pixels, working: tuple[int, int], radius: int, epsilon: float) -> Floats:
    """The map [h, w] of any size as [height, width] of the image `pixels` [height, width, 3].

    `working`: rows and columns of the copy on which the coefficients are found; windows have 2 `radius` + 1 of its
    pixels a side. `epsilon`: a variance of colours in 0..1 below which a window counts as
    flat.
    """
    height, width = pixels.shape[:2]
    rows, columns = working
    small = np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BOX), np.float32) / 255
    slope, offset = _fit(resize(soft, rows, columns), small, radius, epsilon)
    colours = pixels.astype(np.float32) / 255
    filtered: Floats = resize(offset, height, width)
    for channel in range(3):
        filtered = filtered + resize(slope[..., channel], height, width) * colours[..., channel]
    return filtered


def resize(values: Floats, height: int, width: int) -> NDArray[np.float32]:
    """Bilinear, [height, width]."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)


def _fit(soft: Floats, image: Floats, radius: int, epsilon: float) -> tuple[Floats, Floats]:
    """Mean coefficients a [h, w, 3] and b [h, w] over all windows that hold a pixel."""

    def mean(values: Floats) -> Floats:
        size = (2 * radius + 1, 2 * radius + 1, *(1,) * (values.ndim - 2))
        averaged: Floats = ndimage.uniform_filter(values, size, mode="nearest")
        return averaged

    colour, level = mean(image), mean(soft)
    with_map = mean(image * soft[..., None]) - colour * level[..., None]
    among = mean(image[..., :, None] * image[..., None, :]) - colour[..., :, None] * colour[..., None, :]
    slope = np.linalg.solve(among + epsilon * np.eye(3, dtype=np.float32), with_map[..., None])[..., 0]
    return mean(slope), mean(level - (slope * colour).sum(-1))
