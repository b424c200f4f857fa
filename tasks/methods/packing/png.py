"""Lossless PNG bytes of an RGB image, and back."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.pictures import PNG, open_picture, to_rgb

Pixels = NDArray[np.uint8]

LEVEL = 6  # zlib; 9 takes much longer and saves about one per cent


def encode_png(pixels: Pixels) -> bytes:
    """PNG of [height, width, 3]. Equal pixels give equal bytes under one Pillow and zlib."""
    out = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(out, "PNG", compress_level=LEVEL)
    return out.getvalue()


def decode_png(data: bytes) -> Pixels:
    """Pixels [height, width, 3] of a PNG. Errors: PictureError."""
    return np.asarray(open_picture(data, PNG, to_rgb))
