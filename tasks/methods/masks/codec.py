"""Encode and decode masks as files hold them: indexed PNG, COCO run lengths and COCO boxes.

Values: 0 background, 1..254 category, 255 ignore.
"""

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from tailforge.catalog.pictures import PNG, open_picture, to_mask

IGNORE = 255

Mask = NDArray[np.uint8]


@cache
def voc_palette() -> bytes:
    """Return the 256 RGB colours of the PASCAL VOC devkit: bit 3k+c of the index becomes bit 7-k of channel c."""
    # Spread the bits of the index over the three channels, lowest bits first.
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for k in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> (3 * k + channel)) & 1) << (7 - k)).astype(np.uint8)
    return colours.tobytes()


def encode_mask(mask: Mask) -> bytes:
    """Encode a mask [height, width] as indexed PNG (mode P, VOC colours); the stored value is the category."""
    image = Image.fromarray(np.ascontiguousarray(mask, np.uint8), "L")
    image.putpalette(voc_palette())  # turns L into P and keeps the values
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=6)
    return out.getvalue()


def decode_mask(data: bytes) -> Mask:
    """Decode an indexed or grey PNG to values [height, width]. Errors: PictureError for another kind of image."""
    return np.asarray(open_picture(data, PNG, to_mask))


def encode_rle(region: NDArray[np.bool_]) -> str:
    """Encode a region [height, width] as COCO compressed run lengths (column-major), ASCII."""
    return str(coco.encode(np.asfortranarray(region, np.uint8))["counts"].decode("ascii"))


def bound_region(region: NDArray[np.bool_]) -> list[float]:
    """Return the COCO box [x, y, width, height] of a region [height, width], in pixels; it must not be empty."""
    # First and last row and column with a pixel of the region; the last one counts.
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    x, y = int(columns[0]), int(rows[0])
    return [float(x), float(y), float(columns[-1] - x + 1), float(rows[-1] - y + 1)]


def describe_instance(
    region: NDArray[np.bool_],
    category_id: int,
    category: str,
    score: float,
    slot: str = "concept",
    crowd: bool = False,
) -> dict[str, Any]:
    """Return a row of INSTANCES for a region [height, width]. `crowd`: whether it holds several objects."""
    return {
        "slot": slot,
        "category": category,
        "category_id": category_id,
        "bbox": bound_region(region),
        "area": int(region.sum()),
        "score": score,
        "rle": encode_rle(region),
        "crowd": crowd,
    }
