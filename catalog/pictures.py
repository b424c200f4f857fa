"""The one place where picture files of users and of versions are decoded.

Pillow finds a file's format by its bytes and has decoders that start other programs (PostScript starts Ghostscript). So
each place says which formats it takes, and Pillow's other decoders are never asked.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tailforge.schemas.errors import PictureError

Formats = Sequence[str]  # as Pillow names them

PNG: Formats = ("PNG",)
PUBLISHED: dict[str, Formats] = {"png": PNG, "jpg": ("JPEG",), "seg.png": PNG}  # by the member's field
PHOTOGRAPHS: Formats = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # what a user may give as a picture
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of files in these formats
MASKS: Formats = ("BMP", "PNG", "TIFF")  # what a user may give as a mask: formats that keep every value
PNG_END = b"IEND\xaeB`\x82"  # type and checksum of a chunk without content
MOST_PIXELS = 178_956_970  # where Pillow itself refuses a picture: half a gigabyte of RGB
GREY = ("1", "F", "I", "L", "LA", "La")  # modes of Pillow without colour, besides I;16
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF tag, and its values that swap width and height
TOO_LARGE = f"it has more than {MOST_PIXELS:,} pixels, too many to be opened safely; scale it down"


def open_picture(
    data: bytes, formats: Formats, convert: Callable[[Image.Image], Image.Image] | None = None
) -> Image.Image:
    """The whole picture in the bytes of a file, decoded, brought to another mode or size by `convert`.

    Errors: PictureError, whatever Pillow or `convert` raises: another format than `formats`, more than MOST_PIXELS
    pixels, a file that is cut off or damaged.
    """
    with _open(data, formats) as image:
        image.load()
        _require_end(image, data)
        return image if convert is None else convert(image)


def measure_picture(data: bytes, formats: Formats) -> tuple[int, int]:
    """(width, height) of the picture in the bytes of a file, by its header alone. Errors: PictureError."""
    with _open(data, formats) as image:
        return image.size


@contextmanager
def _open(data: bytes, formats: Formats) -> Iterator[Image.Image]:
    """The picture, its pixels not read yet. Errors: PictureError, also for what goes wrong in the block."""
    try:
        with Image.open(io.BytesIO(data), formats=tuple(formats)) as image:
            _require_size(image)
            yield image
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"it is no {_list_formats(formats)} file") from error
    except Image.DecompressionBombError as error:
        raise PictureError(TOO_LARGE) from error
    except Exception as error:  # the decoders have no common error: struct.error, SyntaxError, RecursionError and more
        raise PictureError(f"{error or type(error).__name__}") from error


@dataclass(frozen=True)
class Shown:
    """Size in pixels and channels (1 grey, 3 colour) of the picture that `show_picture` returns."""

    width: int
    height: int
    channels: int


def measure_shown(data: bytes, formats: Formats) -> Shown:
    """Return size and channels of a picture as `show_picture` shows it, by its header. Errors: PictureError."""
    with _open(data, formats) as image:
        turned = image.getexif().get(ORIENTATION) in SIDEWAYS
        width, height = image.size[::-1] if turned else image.size
        return Shown(width, height, 1 if _is_grey(image) else 3)


def show_picture(image: Image.Image) -> Image.Image:
    """Return the picture as a viewer shows it: upright by EXIF, 8 bits, mode L if it is grey, else RGB.

    Transparent pixels are laid over grey (128). Of 16 bits the upper 8 are kept, floats 0..1 become 0..255, palettes,
    CMYK and YCbCr become RGB by Pillow's formulas. EXIF is read here for the first time, so give this to
    `open_picture`, which maps errors. Errors: PictureError for numbers whose scale is unknown: floats outside 0..1,
    and whole numbers outside 0..65535.
    """
    grey = _is_grey(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        upright = _scale_floats(upright)
    elif upright.mode == "I" or upright.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        upright = _scale_whole(upright)
    if "A" in upright.getbands() or "transparency" in upright.info:
        shown = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", shown.size, (128, 128, 128, 255)), shown)
    return upright.convert("RGB").convert("L") if grey else upright.convert("RGB")


def show_rgb(image: Image.Image) -> Image.Image:
    """Return the picture as `show_picture`, in mode RGB also if it is grey. Errors: PictureError."""
    return show_picture(image).convert("RGB")


def _is_grey(image: Image.Image) -> bool:
    return image.mode in GREY or image.mode.startswith("I;16")


def _scale_floats(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise PictureError("its pixels are floats outside 0..1, whose scale is unknown; save it with 8 or 16 bits")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _scale_whole(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError("its pixels are numbers outside 0..65535, whose scale is unknown; save it with 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB as its file holds it, not turned upright."""
    return image.convert("RGB")


def to_mask(image: Image.Image) -> Image.Image:
    """A mask, whose pixels are values and no colours. Errors: PictureError for another kind of picture."""
    if image.mode not in ("P", "L"):
        raise PictureError(f"it is a picture of mode {image.mode}; a mask is indexed (P) or grey (L)")
    return image.copy()


def _require_size(image: Image.Image) -> None:
    """Errors: PictureError. Pillow's own bound is a setting of the whole process, which others may have lifted."""
    if image.width * image.height > MOST_PIXELS:
        raise PictureError(TOO_LARGE)


def _require_end(image: Image.Image, data: bytes) -> None:
    """Errors: PictureError. Pillow reads a PNG whose last bytes are lost, checksum and end mark, without a word."""
    if image.format == "PNG" and PNG_END not in data:
        raise PictureError("it is cut off: it has no end mark")


def _list_formats(formats: Formats) -> str:
    *others, last = formats
    return f"{', '.join(others)} or {last}" if others else last
