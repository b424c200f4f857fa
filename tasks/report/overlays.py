"""Make the report's pictures: thumbnails of samples, and masks as transparent overlays."""

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.pictures import PNG, PUBLISHED, open_picture, to_mask, to_rgb
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.errors import PictureError

THUMBNAIL_PX = 320  # larger images are shrunk to this side
OVERLAY_PX = 256  # small masks are enlarged to about this side, so that outlines are thinner than an image pixel
OUTLINE_PX = 2
IGNORE = 255
HATCH_PX = 12  # from one line of a hatching to the next
# Palette of an overlay. The inside of a thing stays clear to show its colours; magenta is rare among these.
OUTSIDE, INSIDE, EDGE, UNKNOWN, AROUND, CROWD = range(6)
PALETTE = [0, 0, 0, 0, 0, 0, 255, 0, 168, 128, 128, 128, 0, 90, 255, 255, 170, 0]
OPACITY = bytes([88, 0, 255, 150, 96, 255])


def shrink_image(image: bytes) -> tuple[str, bytes]:
    """Return file ending and bytes of an image for the page: unchanged if small, else a WebP of 320 px.

    Errors: PictureError for damaged bytes.
    """
    opened = open_picture(image, (*PUBLISHED["png"], *PUBLISHED["jpg"]))
    if max(opened.size) <= THUMBNAIL_PX:
        return ("jpg" if opened.format == "JPEG" else "png"), image
    small = to_rgb(opened)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=82, method=4)
    return "webp", out.getvalue()


def draw_overlay(mask: bytes, stuff: Collection[int] = (), crowds: Sequence[str] = ()) -> bytes:
    """Return a PNG that shows an indexed mask over its image: outlined, dimmed outside, grey where ignored.

    The outline is inside the mask and not along the image's border. Values of `stuff` are tinted, without an outline.
    `crowds`: run lengths of instances that hold several objects; they are outlined and hatched in a colour of their
    own. Errors: PictureError for damaged bytes, and for run lengths that do not fit the mask.
    """
    opened = open_picture(mask, PNG, to_mask)
    whole = _join_regions(crowds, opened.size)
    labels, crowded = _scale(opened), _scale(Image.fromarray(whole.astype(np.uint8))) > 0

    around = np.isin(labels, list(stuff))
    things = np.where(around, 0, labels).astype(np.uint8)
    paint = np.where(things > 0, INSIDE, OUTSIDE).astype(np.uint8)
    paint[around] = AROUND
    edges = outline(things)
    paint[edges] = EDGE
    paint[crowded & (things > 0) & (edges | _hatch(things.shape))] = CROWD
    paint[labels == IGNORE] = UNKNOWN
    return _encode_palette(paint)


def list_crowds(instances: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Return the run lengths of crowds among instances; those of older versions do not say what is one."""
    return [each["rle"] for each in instances or () if each.get("crowd")]


def _join_regions(run_lengths: Sequence[str], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels [H, W] of any of these regions; `size` is (W, H). Errors: PictureError."""
    width, height = size
    try:
        regions = [decode_rle(each, height, width) for each in run_lengths]
    except ValueError as error:
        raise PictureError(f"the run lengths of an instance do not fit its mask: {error}") from error
    return np.asarray(np.any([np.zeros((height, width), np.bool_), *regions], axis=0))


def _scale(mask: Image.Image) -> NDArray[np.uint8]:
    """Return a mask with a longer side of about `OVERLAY_PX`, [H, W]; small ones grow by a whole factor."""
    scale = OVERLAY_PX / max(mask.size)
    factor = max(1, round(scale))
    if scale < 1:
        mask = mask.copy()
        mask.thumbnail((OVERLAY_PX, OVERLAY_PX), Image.Resampling.NEAREST)
    labels = np.asarray(mask, dtype=np.uint8)
    return labels.repeat(factor, axis=0).repeat(factor, axis=1)


def _hatch(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels [H, W] of diagonal lines."""
    rows, columns = np.indices(shape)
    return np.asarray((rows + columns) % HATCH_PX < OUTLINE_PX)


def has_ignored(mask: bytes) -> bool:
    """Return whether an indexed mask has ignored pixels. Errors: PictureError."""
    return open_picture(mask, PNG, to_mask).getextrema()[1] == IGNORE


def show_colour(paint: int) -> str:
    """Return a colour of the palette in CSS."""
    red, green, blue = PALETTE[3 * paint : 3 * paint + 3]
    return f"rgb({red} {green} {blue} / {OPACITY[paint] / 255:.0%})"


def outline(labels: NDArray[np.uint8], width: int = OUTLINE_PX) -> NDArray[np.bool_]:
    """Return the pixels of regions within `width` steps (up, down, left, right) of another label, bool [H, W]."""
    core: NDArray[np.bool_] = labels > 0
    for shifted in _neighbours(labels):
        core &= labels == shifted
    for _ in range(width - 1):
        core = core & np.all(_neighbours(core), axis=0)
    return np.greater(labels, 0) & ~core


def _neighbours(grid: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the four neighbours of every pixel; at the border a pixel is its own neighbour."""
    padded = np.pad(grid, 1, mode="edge")
    return [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]


def _encode_palette(paint: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(paint)
    image.putpalette(PALETTE)
    out = io.BytesIO()
    image.save(out, "PNG", transparency=OPACITY, bits=4, optimize=True)
    return out.getvalue()
