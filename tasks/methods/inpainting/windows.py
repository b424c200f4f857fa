"""Take the part of a photograph that the generator sees, and put the drawing back without touching other pixels.

The window has the generator's size where the photograph and the regions allow it. It grows to hold all regions, and
ends at the photograph's borders. It is brought to the generator's size by `catalog.images.resizing` with fit pad.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tailforge.tasks.methods.inpainting.shapes import Region

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Window:
    """A rectangle of a photograph, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """Return the rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def choose_window(regions: Sequence[Region], size: tuple[int, int]) -> Window:
    """Return the window of a photograph around all regions [H, W]. `size`: height and width of the generator."""
    # Rows and columns of the regions.
    whole = np.any(regions, axis=0)
    spans = [np.flatnonzero(whole.any(axis)) for axis in (1, 0)]

    # The window's sides: the generator's, more for a larger region, at most the photograph's.
    starts, sides = [], []
    for span, wanted, limit in zip(spans, size, whole.shape, strict=True):
        first, last = int(span[0]), int(span[-1])
        side = min(max(wanted, last - first + 1), limit)
        start = (first + last + 1 - side) // 2
        starts.append(min(max(start, 0), limit - side))
        sides.append(side)
    return Window(starts[0], starts[1], sides[0], sides[1])


def soften_edge(regions: Sequence[Region], feather: int) -> NDArray[np.float32]:
    """Return the share of the drawing per pixel, float32 [H, W]: 0 outside the regions, rising over `feather` pixels.

    The middle of each region is drawn whole, also that of one narrower than twice the feather.
    """
    shares = np.zeros(regions[0].shape, np.float32)
    for region in regions:
        # The region's box with the pixels around it; the photograph's border is no edge.
        (box,) = ndimage.find_objects(region.astype(np.uint8))
        box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)

        # Distance of each pixel to the outside, 1 at the edge; a region without outside has no edge.
        own = region[box]
        depth = np.full(own.shape, feather + 1.0) if own.all() else ndimage.distance_transform_edt(own)
        share = np.minimum(depth / min(feather + 1, depth.max()), 1)
        shares[box] = np.maximum(shares[box], share)
    return shares


def composite(photograph: Pixels, drawn: Pixels, shares: NDArray[np.float32], window: Window) -> Pixels:
    """Return the photograph [H, W, 3] with the drawing [window's height, width, 3] by its share per pixel [H, W].

    A pixel with share 0 keeps its bytes.
    """
    image = photograph.copy()
    share = shares[window.inside][..., None]
    old = photograph[window.inside]
    mixed = np.round(old + share * (drawn.astype(np.float32) - old))
    image[window.inside] = np.where(share > 0, mixed, old).astype(np.uint8)
    return image


def fit_region(region: Region, place: tuple[int, int, int, int], size: tuple[int, int]) -> Region:
    """Return a region of a window at the generator's size [h, w]: every cell that holds a pixel of it, and no other.

    `place`: top, left, height and width of the window in the generator's image.
    """
    top, left, height, width = place
    # A pixel of the region turns on every pixel of the image that covers it.
    rows, columns = np.nonzero(region)
    found = np.zeros(size, np.bool_)
    scale = height / region.shape[0], width / region.shape[1]
    steps = [max(1, int(np.ceil(each))) for each in scale]
    for down in range(steps[0] + 1):
        for right in range(steps[1] + 1):
            # The last step ends just before the next pixel.
            y = np.minimum(((rows + min(down / steps[0], 0.999)) * scale[0]).astype(int), height - 1)
            x = np.minimum(((columns + min(right / steps[1], 0.999)) * scale[1]).astype(int), width - 1)
            found[top + y, left + x] = True
    return found


def restore_window(drawn: Pixels, place: tuple[int, int, int, int], window: Window) -> Pixels:
    """Return the drawing at the window's size, [height, width, 3], from the generator's image [h, w, 3]."""
    # Without the borders around it, at the photograph's scale.
    top, left, height, width = place
    inner = drawn[top : top + height, left : left + width]
    if inner.shape[:2] == (window.height, window.width):
        return inner
    resized = Image.fromarray(np.ascontiguousarray(inner)).resize(
        (window.width, window.height), Image.Resampling.LANCZOS
    )
    return np.asarray(resized, np.uint8)
