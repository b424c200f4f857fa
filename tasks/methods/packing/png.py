"""Encode and decode RGB images as PNG."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.pictures import PNG, open_picture, to_rgb

Pixels = NDArray[np.uint8]

LEVEL = 6  # of zlib; level 9 is much slower and saves about one per cent


def encode_png(pixels: Pixels) -> bytes:
    """Encode pixels [height, width, 3] as PNG. Equal pixels become equal bytes with one version of Pillow and zlib."""
    out = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(out, "PNG", compress_level=LEVEL)
    return out.getvalue()


def decode_png(data: bytes) -> Pixels:
    """Decode a PNG to pixels [height, width, 3]. Errors: PictureError if the bytes are no PNG."""
    return np.asarray(open_picture(data, PNG, to_rgb))
