"""Copy a real defect into a photograph, with its own pixels or blended by Poisson's equation.

Sources: Ghiasi et al., "Simple Copy-Paste" (arXiv 2012.07177); Pérez, Gangnet and Blake, "Poisson Image Editing",
SIGGRAPH 2003. The light of a copy is our choice. Poisson's equations are solved here, because
OpenCV's `seamlessClone` loses thin defects: in version 5.0.0 a stroke of 2 x 36 pixels is an error, and of one of 4 x
36 only 10 pixels change. The fit of a defect to the region is our choice. Letters of shapes: H and W rows and columns.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from tailforge.schemas.settings.pasting import Blend
from tailforge.tasks.methods.defects.drawn import Drawn, Mask, Pixels, check_region, composite
from tailforge.tasks.methods.defects.moves import Placed, Reference, Values, fit_to_region

TRIES = 3  # references and turns drawn; the one that fills most of the region is used
RING = 3  # pixels around a defect whose light counts; our choice


def copy_paste(
    source: Pixels, region: Mask, references: Sequence[Reference], seed: int, blend: Blend = "none"
) -> Drawn:
    """Draw one reference's defect into the region [H, W] of a photograph [H, W, 3].

    The seed draws references. A defect is turned and scaled to the region's direction and area, and what leaves the
    region is cut off; the defect that fills most of the region is used. Errors: ValueError for a photograph, region or
    reference of another shape or type, no reference, or an empty mask.
    """
    check_region(source, region)
    if not references:
        raise ValueError("no reference is given; give at least one photograph of the defect with its mask")
    for reference in references:
        check_region(reference.image, reference.mask)

    # Move some defects, keep the one that fills most of the region, and blend what of it is inside.
    draws = np.random.default_rng(seed)
    drawn = zip(draws.integers(len(references), size=TRIES), draws.integers(2, size=TRIES), strict=True)
    moves = [
        (int(number), fit_to_region(references[number], region, half_turn=bool(turned))) for number, turned in drawn
    ]
    number, best = max(moves, key=lambda move: int((move[1].warp_mask() & region).sum()))
    inside = best.warp_mask() & region
    if not inside.any():
        return Drawn(source.copy(), np.zeros_like(region))
    return paste(source, Placed(number, best, inside), blend)


def paste(source: Pixels, placed: Placed, blend: Blend) -> Drawn:
    """Draw a defect on its place into a photograph [H, W, 3]."""
    moved = placed.move.warp_image()
    values = (
        blend_poisson(source, moved, placed.region) if blend == "poisson" else match_light(source, moved, placed.region)
    )
    return replace(composite(source, values, placed.region), copied=placed.number)


def match_light(source: Pixels, moved: Values, inside: Mask) -> Values:
    """Return `moved` [H, W, 3] with the light that `source` [H, W, 3] has around the mask [H, W].

    Each channel is scaled by the ratio of both means over RING pixels around the mask.
    """
    # The pixels around the mask, in the photograph and in the moved reference.
    ring = ndimage.binary_dilation(inside, iterations=RING) & ~inside
    if not ring.any():
        return moved
    here, there = (image[ring].mean(axis=0) for image in (source.astype(np.float64), moved))

    # One factor per channel keeps the defect's contrast.
    scaled: Values = moved * (here / np.maximum(there, 1.0))
    return scaled


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
