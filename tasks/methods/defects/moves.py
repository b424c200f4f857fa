"""Move a photographed defect into another photograph: turned, scaled, mirrored, shifted.

Letters of shapes: H and W rows and columns of the photograph; h and w those of the reference.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailforge.schemas.settings.pasting import DefectRegions
from tailforge.tasks.methods.defects.drawn import Mask, Pixels
from tailforge.tasks.methods.inpainting.shapes import find_on_part, measure_pose

SCALES = (0.5, 2.0)  # smallest and largest scale of a defect that is fitted to a region; our choice
TRIES = 8  # moves to try for a defect that no other covers
Values = NDArray[np.float64]


class Reference(NamedTuple):
    """A photograph of a defect [h, w, 3] and the mask of the defect [h, w], cut out of a larger photograph.

    `corner`: row and column of the cutting in the photograph. `size`: the photograph's height and width.
    """

    image: Pixels
    mask: Mask
    corner: tuple[int, int] = (0, 0)
    size: tuple[int, int] | None = None  # by default that of the reference

    @property
    def whole(self) -> tuple[int, int]:
        """Return the height and width of the photograph that the reference is cut from."""
        return self.size or (self.mask.shape[0], self.mask.shape[1])


class Move(NamedTuple):
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


class Placed(NamedTuple):
    """A defect on its new place: the reference's number, its move, and the region [H, W] that it may fill."""

    number: int
    move: Move
    region: Mask


def fit_to_region(reference: Reference, region: Mask, half_turn: bool) -> Move:
    """Return the move of a reference's defect to the centre, direction and area of a region [H, W]."""
    # The scale follows from both areas, the turn from both directions.
    here, there = measure_pose(region), measure_pose(reference.mask)
    scale = float(np.clip(np.sqrt(here.area / there.area), *SCALES))
    turn = there.angle - here.angle + (np.pi if half_turn else 0.0)
    return _move(reference, here.centre, there.centre, turn, scale, (1, 1), region.shape)


def place_defects(settings: DefectRegions, part: Mask, references: Sequence[Reference], seed: int) -> list[Placed]:
    """Return defects on places of their own on a part [H, W], without common pixels, by a seed.

    A defect keeps its place in the photograph, as shares of the sides, and its size, as a share of the photograph. The
    settings say how far both are changed. There is none if no try meets the part.
    """
    # How many defects are drawn.
    draws = np.random.default_rng(seed)
    count = int(draws.integers(settings.count[0], settings.count[1] + 1))
    found: list[Placed] = []
    taken = np.zeros_like(part)
    for _ in range(TRIES * count):
        # A defect on another place, without what leaves the part or covers another defect.
        number = int(draws.integers(len(references)))
        move = _vary(settings, references[number], part, draws)
        region = move.warp_mask() & part & ~taken
        if region.any():
            found.append(Placed(number, move, region))
            taken |= region
        if len(found) == count:
            break
    return found


def _vary(settings: DefectRegions, reference: Reference, part: Mask, draws: np.random.Generator) -> Move:
    """Return a random change of a defect's place, direction and size, within the settings."""
    # Mirrored as the whole photograph would be, so that what lies at a border stays there.
    flips = [-1 if settings.mirror and draws.integers(2) else 1 for _ in range(2)]
    centre = measure_pose(reference.mask).centre
    # A pixel has its centre half a pixel from its edge.
    shares = (np.array(centre) + reference.corner + 0.5) / reference.whole
    shares = np.where(np.array(flips) < 0, 1 - shares, shares) + draws.uniform(-settings.shift, settings.shift, 2)

    # A place beside the part moves to the part's nearest pixel.
    place = shares * part.shape - 0.5
    nearest = np.array(find_on_part(place, part))
    row, column = place if np.abs(nearest - place).max() <= 0.5 else nearest

    # Sizes of the photographs may differ.
    low, high = np.log(settings.scale)
    scale = np.sqrt(part.size / np.prod(reference.whole)) * np.exp(draws.uniform(low, high))
    turn = np.deg2rad(draws.uniform(-settings.turn, settings.turn))
    return _move(reference, (float(row), float(column)), centre, turn, float(scale), (flips[0], flips[1]), part.shape)


def _move(
    reference: Reference,
    here: tuple[float, float],
    there: tuple[float, float],
    turn: float,
    scale: float,
    flips: tuple[int, int],
    shape: tuple[int, ...],
) -> Move:
    """Return the map from a photograph's pixels to those of the reference, with `here` on `there`."""
    # Turn and scale, then mirror, in the coordinates of the reference.
    cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
    matrix = np.diag(flips) @ np.array([[cosine, sine], [-sine, cosine]])
    return Move(reference, matrix, np.array(there) - matrix @ np.array(here), (shape[0], shape[1]))
