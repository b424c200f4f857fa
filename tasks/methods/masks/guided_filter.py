"""Smooth a map along the edges of an image with the guided filter (He, Sun and Tang 2010).

In every window the output is a linear function of the image's colours, fitted to the map by ridge regression
(equations 14 to 16 of the journal version, IEEE TPAMI 2013, in colour):

    a = (cov(I) + eps U)^-1 cov(I, p),   b = mean(p) - a . mean(I),   q = mean(a) . I + mean(b)

The coefficients are found on a small copy of the image and then resized to the image (Fast Guided Filter, He and Sun
2015, arXiv 1505.00996), so the cost hardly grows with the image.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]


def filter_guided(soft: Floats, pixels: Pixels, working: tuple[int, int], radius: int, epsilon: float) -> Floats:
    """Filter a map [h, w] of any size to [height, width] of the image `pixels` [height, width, 3].

    `working`: rows and columns of the small copy. Windows have 2 `radius` + 1 pixels of it per side. `epsilon`: a
    window with a smaller variance of colours (0..1) counts as flat.
    """
    height, width = pixels.shape[:2]
    rows, columns = working

    # Fit mean(a) and mean(b) on the small copy.
    small = np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BOX), np.float32) / 255
    slope, offset = _fit(resize(soft, rows, columns), small, radius, epsilon)

    # q = mean(a) . I + mean(b), on the full image.
    colours = pixels.astype(np.float32) / 255
    filtered: Floats = resize(offset, height, width)
    for channel in range(3):
        filtered = filtered + resize(slope[..., channel], height, width) * colours[..., channel]
    return filtered


def resize(values: Floats, height: int, width: int) -> NDArray[np.float32]:
    """Resize values [h, w] to [height, width], bilinear."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)


def _fit(soft: Floats, image: Floats, radius: int, epsilon: float) -> tuple[Floats, Floats]:
    """Return the coefficients a [h, w, 3] and b [h, w], each averaged over all windows that hold a pixel."""

    def mean(values: Floats) -> Floats:
        size = (2 * radius + 1, 2 * radius + 1, *(1,) * (values.ndim - 2))
        averaged: Floats = ndimage.uniform_filter(values, size, mode="nearest")
        return averaged

    # cov(I, p) and cov(I) of every window, by means of products.
    colour, level = mean(image), mean(soft)
    with_map = mean(image * soft[..., None]) - colour * level[..., None]
    among = mean(image[..., :, None] * image[..., None, :]) - colour[..., :, None] * colour[..., None, :]

    # Ridge regression per window, then the mean over windows.
    slope = np.linalg.solve(among + epsilon * np.eye(3, dtype=np.float32), with_map[..., None])[..., 0]
    return mean(slope), mean(level - (slope * colour).sum(-1))
