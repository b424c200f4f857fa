"""Copy a real defect into a photograph, blended by Poisson's equation.

Source: Pérez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003. The equations are solved here, because
OpenCV's `seamlessClone` loses thin defects: in version 5.0.0 a stroke of 2 x 36 pixels is an error, and of one of 4 x
36 only 10 pixels change. The fit of a defect to the region is our choice. Letters of shapes: H and W rows and columns.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from tailforge.tasks.methods.defects.drawn import Drawn, Mask, Pixels, check_region, composite
from tailforge.tasks.methods.inpainting.shapes import measure_pose

TRIES = 3  # references and turns drawn; the one that fills most of the region is used
SCALES = (0.5, 2.0)  # smallest and largest scale of a copied defect
Values = NDArray[np.float64]


class Reference(NamedTuple):
    """A photograph of a defect [H, W, 3], and the mask of the defect [H, W]."""

    image: Pixels
    mask: Mask


def copy_paste(source: Pixels, region: Mask, references: Sequence[Reference], seed: int) -> Drawn:
    """Draw one reference's defect into the region [H, W] of a photograph [H, W, 3].

    The seed draws references. A defect is turned and scaled to the region's direction and area, and what leaves the
    region is cut off; the defect that fills most of the region is used. Errors: ValueError for a photograph, region or
    reference of another shape or type, no reference, or an empty mask.
    """
    check_region(source, region)
    if not references:
        raise ValueError("no reference is given; give at least one photograph of the defect with its mask")
    for reference in references:
        check_region(*reference)

    # Move some defects, keep the one that fills most of the region, and blend what of it is inside.
    draws = np.random.default_rng(seed)
    drawn = zip(draws.integers(len(references), size=TRIES), draws.integers(2, size=TRIES), strict=True)
    moves = [(int(number), _fit(references[number], region, half_turn=bool(turned))) for number, turned in drawn]
    number, best = max(moves, key=lambda move: int((move[1].warp_mask() & region).sum()))
    inside = best.warp_mask() & region
    if not inside.any():
        return Drawn(source.copy(), np.zeros_like(region))
    return replace(composite(source, blend_poisson(source, best.warp_image(), inside), inside), copied=number)


def blend_poisson(source: Pixels, moved: Values, inside: Mask) -> Values:
    """Return `source` [H, W, 3] with the gradients of `moved` [H, W, 3] inside the mask [H, W].

    Every unknown pixel p and its neighbours q satisfy sum over q of (f_p - f_q) = sum over q of (g_p - g_q), with f_q
    known outside the mask (Pérez et al., equations 7 and 11). Neighbours beyond the image's border are left out.
    """
    # Number the unknown pixels.
    height, width = inside.shape
    rows, columns = np.nonzero(inside)
    number = np.full(inside.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    diagonal, right = np.zeros(len(rows)), np.zeros((len(rows), 3))
    entries: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []

    # One term per neighbour, of the guidance field and of what is known.
    for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        beside, below = columns + across, rows + down
        own = np.flatnonzero((beside >= 0) & (beside < width) & (below >= 0) & (below < height))
        at, other = (rows[own], columns[own]), (below[own], beside[own])
        diagonal[own] += 1
        right[own] += moved[at] - moved[other]
        unknown = number[other] >= 0
        right[own[~unknown]] += source[other][~unknown]
        entries.append((own[unknown], number[other][unknown]))

    # An image that is all unknown has no boundary, and its mean is free.
    if inside.all():
        return moved
    from_, to = (np.concatenate(each) for each in zip(*entries, strict=True))
    matrix = sparse.diags_array(diagonal) - sparse.coo_array((np.ones(len(to)), (from_, to)), shape=(len(rows),) * 2)
    blended = source.astype(np.float64)
    blended[rows, columns] = splu(matrix.tocsc()).solve(right)
    return blended


class _Move(NamedTuple):
    """A reference, and the affine map [2, 2] and offset [2] from the pixels of a photograph [H, W] to its own."""

    reference: Reference
    matrix: Values
    offset: Values
    shape: tuple[int, int]

    def warp_mask(self) -> Mask:
        """Return the defect [H, W] where it is moved to; nothing lies beyond the reference's border."""
        warped: Mask = self._warp(self.reference.mask.astype(np.float64), "constant") >= 0.5
        return warped

    def warp_image(self) -> Values:
        """Return the reference's image [H, W, 3], moved; its border is continued outwards."""
        channels = np.moveaxis(self.reference.image.astype(np.float64), 2, 0)
        return np.stack([self._warp(channel, "nearest") for channel in channels], axis=2)

    def _warp(self, values: Values, beyond: str) -> Values:
        moved: Values = ndimage.affine_transform(values, self.matrix, self.offset, self.shape, order=1, mode=beyond)
        return moved


def _fit(reference: Reference, region: Mask, half_turn: bool) -> _Move:
    """Return how a reference's defect is moved onto the region [H, W]."""
    # Centre, direction and area of both.
    here, there = measure_pose(region), measure_pose(reference.mask)
    scale = float(np.clip(np.sqrt(here.area / there.area), *SCALES))
    turn = there.angle - here.angle + (np.pi if half_turn else 0.0)

    # From the region's pixels to those of the reference.
    cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    offset = np.array(there.centre) - matrix @ np.array(here.centre)
    return _Move(reference, matrix, offset, (region.shape[0], region.shape[1]))
