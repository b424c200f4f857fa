"""Bytes of image files, wherever they lie: in a folder, in a column of a Parquet file, in a shard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from catalog.pictures import PHOTOGRAPHS, SUFFIXES, open_picture
from schemas.errors import ImagesError, PictureError


def list_image_files(folder: Path) -> list[Path]:
    """Image files of a folder and its sub-folders by rising name; whatever is hidden is passed over."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    return sorted(file for file in found if not any(part[0] == "." for part in file.relative_to(folder).parts))


def read_image_file(file: Path) -> bytes:
    """Errors: ImagesError for a file that cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ImagesError(f"{file} cannot be read: {error.strerror}; put it back or allow reading it") from error


def require_image_column(file: Path, kind: pa.DataType) -> None:
    """Errors: ImagesError for a column `image` of Parquet file `file` whose values are not bytes or hold none."""
    if pa.types.is_struct(kind):
        if kind.get_field_index("bytes") < 0:
            raise ImagesError(
                f"{file}: column image is {kind}, which has no field bytes; it needs bytes of image files, or bytes "
                "in it"
            )
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)):
        raise ImagesError(f"{file}: column image holds {kind}; it needs bytes of image files")


def take_image_bytes(value: Any) -> bytes:
    """Of a value of such a column; no bytes where it is null."""
    found = value["bytes"] if isinstance(value, dict) else value
    return found or b""


def decode_image(data: bytes, place: str, convert: Callable[[Image.Image], Image.Image]) -> NDArray[np.uint8]:
    """Pixels uint8 [height, width] or [height, width, 3] of an image file that `convert` brought to 8 bits.

    Errors: ImagesError that names `place` for bytes that are no image or a damaged one.
    """
    try:
        return np.asarray(open_picture(data, PHOTOGRAPHS, convert), np.uint8)
    except PictureError as error:
        raise ImagesError(f"{place} cannot be read as an image: {error}; replace or remove it") from error
