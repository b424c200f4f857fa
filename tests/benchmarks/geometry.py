"""Test the geometry of a drawn part by its mask alone: corners of the outline, holes, teeth, coils.

No network has a part in it but the one that made the mask. A test may judge drawn images only after it was right on
clean renders, whose geometry is known (test_geometry.py). All tests are our own choice, made for parts of 30 to 55
pixels. Letters of shapes: H and W pixel rows and columns, A angles, P pixels of the part.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

ANGLES = np.arange(360) * (2 * np.pi / 360)
CORNERS = range(3, 10)
TURNS = 36  # rotations of a polygon that are compared
SMALLEST_HOLE = 6  # pixels; the bore of the smallest pulley has about 10
BAND = (0.80, 0.84, 0.88)  # radii at which a gear's teeth are cut, as shares of the largest one
TEETH, COILS = range(8, 13), {4, 5}
ROUND = 0.93  # least share of its circle that a disc of pixels fills
UNEVEN = 0.2  # largest standard deviation of the spacing of teeth or coils, as a share of its mean


def count_holes(mask: Mask) -> int:
    """Holes of a mask [H, W]. Its pixels touch at their corners as well, those of a hole at their sides."""
    outside, number = ndimage.label(np.pad(~mask, 1, constant_values=True))
    sizes = np.bincount(outside.ravel(), minlength=number + 1)[1:]
    return int((np.delete(sizes, outside[0, 0] - 1) >= SMALLEST_HOLE).sum())


def is_whole(mask: Mask) -> bool:
    """Whether a mask [H, W] is one piece but for specks of less than 2 % of it."""
    pieces = np.bincount(ndimage.label(mask, np.ones((3, 3)))[0].ravel())[1:]
    return bool(len(pieces) and pieces.max() >= 0.98 * pieces.sum())


def count_corners(mask: Mask) -> int:
    """Corners of the regular polygon that fits the convex outline of a mask [H, W] best; 0 if a circle fits better.

    The support function h(t), the extent in direction t, of a polygon with corners at radius R in directions t_k is the
    largest R cos(t - t_k). Centre and radius are fitted by least squares for every number of corners and rotation.
    """
    rows, columns = np.nonzero(mask)
    across, down = np.cos(ANGLES), np.sin(ANGLES)
    support = (np.outer(across, columns) + np.outer(down, rows)).max(1)

    # A circle first, then all polygons; the centre shifts the support by a cosine.
    misfits = {0: _misfit(np.ones_like(ANGLES), support)}
    for corners in CORNERS:
        sector = 2 * np.pi / corners
        turned = (ANGLES - np.arange(TURNS)[:, None] * (sector / TURNS)) % sector
        shapes = np.cos(np.minimum(turned, sector - turned))
        misfits[corners] = min(_misfit(shape, support) for shape in shapes)
    return min(misfits, key=misfits.__getitem__)


def _misfit(shape: Values, support: Values) -> float:
    """Sum of squares that is left of a support function [A] after the fit of a shape's [A]."""
    terms = np.stack([shape, np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    return float(np.square(support - terms @ np.linalg.lstsq(terms, support)[0]).sum())


def count_teeth(mask: Mask) -> int:
    """Teeth of a gear's mask [H, W], even about its middle; 0 if they are not, or three circles cut three numbers."""
    filled = ndimage.binary_fill_holes(mask)
    rows, columns = np.nonzero(filled)
    middle = rows.mean(), columns.mean()
    reach = np.quantile(np.hypot(rows - middle[0], columns - middle[1]), 0.995)

    # Cut the teeth by circles between root and tip.
    found = []
    for share in BAND:
        points = middle[0] + share * reach * np.sin(ANGLES), middle[1] + share * reach * np.cos(ANGLES)
        cut = ndimage.map_coordinates(filled.astype(float), points, order=1) > 0.5
        found.append(_count_even(np.flatnonzero(cut & ~np.roll(cut, 1)), len(cut)))
    return int(np.median(found)) if len(set(found)) < len(found) else 0


def _count_even(starts: NDArray[np.intp], around: int) -> int:
    """Number of starts on a circle of so many places, if they are evenly spaced; else 0."""
    gaps = np.diff(starts, append=starts[:1] + around)
    return len(gaps) if len(gaps) > 1 and gaps.std() <= UNEVEN * gaps.mean() else 0


def count_coils(mask: Mask) -> tuple[int, int]:
    """Turning points on both long sides of a spring's mask [H, W], evenly spaced; 0 for a side where they are not."""
    # The spring's axis is the direction of the largest spread.
    points = np.argwhere(mask) - np.argwhere(mask).mean(0)
    along, across = np.linalg.svd(points, full_matrices=False)[2]
    length, half = np.abs(points @ along).max(), np.quantile(np.abs(points @ across), 0.99)

    # Lines along both sides cut every turn once.
    steps = np.linspace(-length - 2, length + 2, 400)
    counts = []
    for side in (-0.72, 0.72):
        places = np.argwhere(mask).mean(0) + np.outer(steps, along) + side * half * across
        cut = ndimage.map_coordinates(mask.astype(float), places.T, order=1) > 0.5
        middles = (np.flatnonzero(np.diff(cut.astype(int)) == 1) + np.flatnonzero(np.diff(cut.astype(int)) == -1)) / 2
        gaps = np.diff(middles)
        counts.append(len(middles) if len(gaps) and gaps.std() <= UNEVEN * gaps.mean() else 0)
    return counts[0], counts[1]


def is_hex_nut(mask: Mask) -> bool:
    """Whether a mask [H, W] has one bore and six corners."""
    return is_whole(mask) and count_holes(mask) == 1 and count_corners(mask) == 6


def is_washer(mask: Mask) -> bool:
    """Whether a mask [H, W] is a round ring. A gear's outline is round as well, but fills less of its circle."""
    filled = ndimage.binary_fill_holes(mask)
    rows, columns = np.nonzero(filled)
    reach = np.hypot(rows - rows.mean(), columns - columns.mean()).max()
    return is_whole(mask) and count_holes(mask) == 1 and bool(filled.sum() > ROUND * np.pi * reach**2)


def is_gear(mask: Mask) -> bool:
    """Whether a mask [H, W] is a closed ring with 8 to 12 even teeth."""
    return is_whole(mask) and count_holes(mask) == 1 and count_teeth(mask) in TEETH


def is_spring(mask: Mask) -> bool:
    """Whether a mask [H, W] has 4 or 5 even turns on either side."""
    return is_whole(mask) and set(count_coils(mask)) <= COILS


def has_holes(*numbers: int) -> Callable[[Mask], bool]:
    """Test of a mask [H, W]: one piece with one of these numbers of holes."""
    return lambda mask: is_whole(mask) and count_holes(mask) in numbers


GEOMETRY: Mapping[str, Callable[[Mask], bool]] = {
    "gear": is_gear,
    "bolt": has_holes(0),
    "washer": is_washer,
    "hex nut": is_hex_nut,
    "bracket": has_holes(2),
    "spring": is_spring,
    "wrench": has_holes(1),
    "pulley": has_holes(4, 5, 6),
}
"""What a mask of each common part must show: the rules of the renderer."""
