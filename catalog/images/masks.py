"""Decode the masks that users give: pictures whose pixels are values and no colours."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.files import read_image_file
from tailforge.catalog.pictures import MASKS, open_picture, to_mask
from tailforge.schemas.errors import ImagesError, PictureError


def decode_user_mask(data: bytes, place: str) -> NDArray[np.uint8]:
    """Return the values [height, width] of a mask file, indexed or grey. Errors: ImagesError naming `place`."""
    try:
        return np.asarray(open_picture(data, MASKS, to_mask), np.uint8)
    except PictureError as error:
        raise ImagesError(
            f"{place} cannot be read as a mask: {error}; save an indexed or grey PNG, BMP or TIFF"
        ) from error


def read_mask_file(file: str | Path) -> NDArray[np.uint8]:
    """Return the values [height, width] of a mask file. Errors: ImagesError."""
    return decode_user_mask(read_image_file(file), str(file))
