"""Read the bytes of image files from a folder, a Parquet column or a shard."""

import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.pictures import PHOTOGRAPHS, SUFFIXES, open_picture
from tailforge.catalog.sources.links import leaves
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ImagesError, PictureError

FOREIGN = (".avif", ".heic", ".heif", ".jfif", ".jp2", ".jxl")  # suffixes unknown to some Python versions


def list_image_files(folder: Path, root: Path) -> list[Path]:
    """Return the image files of a folder and its subfolders by name, without hidden and other files.

    Errors: ImagesError for a link out of `root` or to a folder, an unsupported picture format, and a directory or
    broken
    link with an image's name. So no image is skipped silently.
    """
    return [file for file in list_shown(folder) if _is_image(file, root)]


def list_shown(folder: Path) -> list[Path]:
    """Return everything in a folder and its subfolders by name, except hidden files and folders."""
    found = sorted(folder.rglob("*"))
    return [file for file in found if not any(part[0] == "." for part in file.relative_to(folder).parts)]


def require_inside(file: Path, root: Path) -> Path:
    """Return the file. Errors: ImagesError for a link that leaves the folder `root`."""
    if leaves(file, root):
        raise ImagesError(f"{file} is a link that leaves {root}; copy the file instead")
    return file


def _is_image(file: Path, root: Path) -> bool:
    """Return whether a file is an image. Errors: those of `list_image_files`."""
    if file.is_symlink() and file.is_dir():
        raise ImagesError(f"{file} is a link to a folder; copy the folder instead")
    if file.suffix.lower() in SUFFIXES and not file.is_dir():
        if not require_inside(file, root).is_file():
            raise ImagesError(f"{file} is no file, or a link to none; put the image there or remove it")
        return True
    if is_foreign_picture(file):
        raise ImagesError(f"{file} cannot be read; save it as one of {', '.join(SUFFIXES)}, or remove it")
    return False


def is_foreign_picture(file: Path) -> bool:
    """Return whether a file's name means a picture in an unsupported format."""
    suffix = file.suffix.lower()
    media_type, _ = mimetypes.guess_type(f"picture{suffix}", strict=False)
    return suffix not in SUFFIXES and (suffix in FOREIGN or (media_type or "").startswith("image/"))


def read_image_file(file: Path) -> bytes:
    """Return the bytes of a file. Errors: ImagesError for a file that cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ImagesError(
            f"{file} cannot be read: {describe_failure(error)}; put it back or allow reading it"
        ) from error


def require_image_column(file: Path, kind: pa.DataType) -> None:
    """Check that column `image` of Parquet file `file` holds bytes. Errors: ImagesError."""
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
    """Return the bytes of a value of such a column; empty for null."""
    found = value["bytes"] if isinstance(value, dict) else value
    return found or b""


def decode_image(data: bytes, place: str, convert: Callable[[Image.Image], Image.Image]) -> NDArray[np.uint8]:
    """Return pixels uint8 [height, width] or [height, width, 3] of an image that `convert` brought to 8 bits.

    Errors: ImagesError naming `place` for damaged bytes or bytes of no image.
    """
    try:
        return np.asarray(open_picture(data, PHOTOGRAPHS, convert), np.uint8)
    except PictureError as error:
        raise ImagesError(f"{place} cannot be read as an image: {error}; replace or remove it") from error
