"""Bring images and masks to a size: `fit` says what is done with another shape."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tailforge.schemas.options import Fit

Size = tuple[int, int]  # height, width


def resize_image(image: Image.Image, size: Size, fit: Fit) -> Image.Image:
    """Return the image at `size` (height, width), by a Lanczos filter.

    crop: scaled until it covers the size, the middle kept. pad: scaled until it fits in, in the middle of black.
    stretch: both sides scaled on their own. exact: unchanged, whatever its size. All scale up as well as down.
    """
    return _resize(image, size, fit, Image.Resampling.LANCZOS)


def resize_colours(image: Image.Image, size: Size, fit: Fit) -> Image.Image:
    """Return a mask in colours at `size` (height, width), each colour that of the nearest pixel.

    Geometry: as `resize_image`.
    """
    return _resize(image, size, fit, Image.Resampling.NEAREST)


def resize_mask(mask: NDArray[np.uint8], size: Size, fit: Fit) -> NDArray[np.uint8]:
    """Return the mask [height, width] at `size`, each value that of the nearest pixel; with pad 0 around it.

    Geometry: as `resize_image`.
    """
    resized = _resize(Image.fromarray(np.ascontiguousarray(mask, np.uint8)), size, fit, Image.Resampling.NEAREST)
    return np.asarray(resized, np.uint8)


def place_inside(shape: Size, size: Size) -> tuple[int, int, int, int]:
    """Return top, left, height and width of an image of `shape` (height, width) that `pad` fits into `size`."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    height, width = (max(1, round(side * scale)) for side in shape)
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def _resize(image: Image.Image, size: Size, fit: Fit, method: Any) -> Image.Image:
    height, width = size
    if fit == "exact":
        return image
    if fit == "crop":
        return ImageOps.fit(image, (width, height), method)
    if fit == "stretch":
        return image.resize((width, height), method)

    top, left, inner_height, inner_width = place_inside((image.height, image.width), size)
    padded = Image.new(image.mode, (width, height))
    padded.paste(image.resize((inner_width, inner_height), method), (left, top))
    return padded
