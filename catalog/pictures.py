"""Decode picture files of users and of versions. No other module calls Pillow's decoders.

Pillow detects a file's format from its bytes, and some of its decoders start other programs (PostScript starts
Ghostscript). So each caller names its allowed formats, and Pillow's other decoders never run.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tailforge.schemas.errors import PictureError

Formats = Sequence[str]  # in Pillow's names

PNG: Formats = ("PNG",)
PUBLISHED: dict[str, Formats] = {"png": PNG, "jpg": ("JPEG",), "seg.png": PNG}  # by the member's field
PHOTOGRAPHS: Formats = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # formats of a user's pictures
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of files in these formats
SUFFIX_OF = {"BMP": ".bmp", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp"}  # JPEG and its kinds: .jpg
MASKS: Formats = ("BMP", "PNG", "TIFF")  # formats of a user's masks, all lossless
PNG_END = b"IEND\xaeB`\x82"  # type and checksum of a chunk without content
MOST_PIXELS = 178_956_970  # Pillow's own limit: half a gigabyte of RGB
GREY = ("1", "F", "I", "L", "LA", "La")  # modes of Pillow without colour, in addition to I;16
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF tag, and its values that swap width and height
TOO_LARGE = f"it has more than {MOST_PIXELS:,} pixels, too many to be opened safely; scale it down"


def open_picture(
    data: bytes,
    formats: Formats,
    convert: Callable[[Image.Image], Image.Image] | None = None,
    least_side: int | None = None,
) -> Image.Image:
    """Return the decoded picture in the bytes of a file, after `convert` to another mode or size.

    `least_side`: pixels that suffice on both sides. Then a JPEG is decoded at a half, a quarter or an eighth of its
    size, which is as many times faster.
    Errors: PictureError for another format than `formats`, more than MOST_PIXELS pixels, a short or damaged file, and
    any other error of Pillow or `convert`.
    """
    with _open(data, formats) as image:
        if least_side is not None:
            image.draft(None, (least_side, least_side))
        image.load()
        _require_end(image, data)
        return image if convert is None else convert(image)


def find_suffix(data: bytes, formats: Formats) -> str:
    """Return the usual suffix of a picture file by its bytes, such as .png. Errors: PictureError."""
    with _open(data, formats) as image:
        return SUFFIX_OF.get(str(image.format), ".jpg")


def measure_picture(data: bytes, formats: Formats) -> tuple[int, int]:
    """Return (width, height) in pixels of the picture in the bytes of a file, from its header. Errors: PictureError."""
    with _open(data, formats) as image:
        return image.size


@contextmanager
def _open(data: bytes, formats: Formats) -> Iterator[Image.Image]:
    """Yield the picture with unread pixels. Errors: PictureError, also for any error inside the context."""
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
    """Return size and channels of a picture after `show_picture`, from its header. Errors: PictureError."""
    with _open(data, formats) as image:
        turned = image.getexif().get(ORIENTATION) in SIDEWAYS
        width, height = image.size[::-1] if turned else image.size
        return Shown(width, height, 1 if _is_grey(image) else 3)


def show_picture(image: Image.Image) -> Image.Image:
    """Return the picture as viewers show it: upright by EXIF, with 8 bits, in mode L if it is grey, else RGB.

    Transparent pixels are blended with grey (128). 16 bits become their upper 8, and floats 0..1 become 0..255.
    Palettes, CMYK and YCbCr become RGB by Pillow's formulas. The function reads EXIF, so pass it to `open_picture`,
    which translates Pillow's errors. Errors: PictureError for floats outside 0..1 and whole numbers outside 0..65535,
    since their scale is unknown.
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
    """Return the picture as `show_picture`, but grey pictures in mode RGB, too. Errors: PictureError."""
    return show_picture(image).convert("RGB")


def _is_grey(image: Image.Image) -> bool:
    """Return whether a picture has no colours."""
    return image.mode in GREY or image.mode.startswith("I;16")


def _scale_floats(image: Image.Image) -> Image.Image:
    """Scale floats 0..1 to 8 bits. Errors: PictureError for other floats."""
    values = np.asarray(image)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise PictureError("its pixels are floats outside 0..1, whose scale is unknown; save it with 8 or 16 bits")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _scale_whole(image: Image.Image) -> Image.Image:
    """Keep the upper 8 of 16 bits. Errors: PictureError for numbers outside 0..65535."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError("its pixels are numbers outside 0..65535, whose scale is unknown; save it with 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the picture in mode RGB, in the orientation of its file."""
    return image.convert("RGB")


def to_mask(image: Image.Image) -> Image.Image:
    """Return a mask, whose pixels are values instead of colours. Errors: PictureError for a picture in colours."""
    if image.mode not in ("P", "L"):
        raise PictureError(f"it is a picture of mode {image.mode}; a mask is indexed (P) or grey (L)")
    return image.copy()


def _require_size(image: Image.Image) -> None:
    """Check the size, since another module may have raised Pillow's own limit. Errors: PictureError."""
    if image.width * image.height > MOST_PIXELS:
        raise PictureError(TOO_LARGE)


def _require_end(image: Image.Image, data: bytes) -> None:
    """Check the end of a PNG, since Pillow accepts a file without checksum and end mark. Errors: PictureError."""
    if image.format == "PNG" and PNG_END not in data:
        raise PictureError("it is cut off: it has no end mark")


def _list_formats(formats: Formats) -> str:
    """Return the names of formats, joined by commas and "or"."""
    *others, last = formats
    return f"{', '.join(others)} or {last}" if others else last
