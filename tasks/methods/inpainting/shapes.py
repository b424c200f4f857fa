"""Draw regions of random shapes: scratch, stroke, blob and spots. The shapes are our choice.

A shape is drawn in a square frame around its centre, so that the size of a photograph costs nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Form = Literal["scratch", "stroke", "blob", "spots"]
Region = NDArray[np.bool_]
Floats = NDArray[np.float64]

ELONGATIONS: dict[Form, tuple[float, float]] = {
    "scratch": (15.0, 40.0), "stroke": (4.0, 10.0), "blob": (1.0, 2.5), "spots": (1.0, 2.5),
}  # fmt: skip
LINE = 4.0  # elongation from which a region counts as a line
WAVES = 5  # harmonics of an uneven outline or line
UNEVEN = 0.25  # deviation of a blob's radius, as a share of it
BENDS: dict[Form, float] = {"scratch": 0.02, "stroke": 0.12}  # deviation of a line from straight, as a share of it
SPOTS = (3, 7)  # fewest and most spots of a region


@dataclass(frozen=True)
class Pose:
    """Size and place of a region. `area`: pixels. `elongation`: length by width. `angle`: radians, from the columns.

    `centre`: row and column.
    """

    area: float
    elongation: float
    angle: float
    centre: tuple[float, float]


def draw_shape(form: Form, pose: Pose, size: tuple[int, int], draws: np.random.Generator) -> Region:
    """Return a region [H, W] of about the pose's area; outside the image it is cut off. `size`: H and W."""
    # A square frame that holds the shape: twice its half length, and the largest deviations.
    length = np.sqrt(pose.area * pose.elongation)
    reach = int(np.ceil(1.5 * length)) + 3
    row, column = (round(place) for place in pose.centre)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)

    # Coordinates along and across the shape, in pixels.
    along = right * np.cos(pose.angle) + down * np.sin(pose.angle)
    across = down * np.cos(pose.angle) - right * np.sin(pose.angle)
    drawn = DRAW[form](along, across, pose, draws)
    return _paste(drawn, (row - reach, column - reach), size)


def _draw_line(bend: float) -> Callable[[Floats, Floats, Pose, np.random.Generator], Region]:
    """Return the drawing of lines that leave the straight by `bend`, a share of their length."""

    def draw(along: Floats, across: Floats, pose: Pose, draws: np.random.Generator) -> Region:
        """Return a band around a smooth random line through the centre."""
        length = np.sqrt(pose.area * pose.elongation)
        width = max(pose.area / length, 1.0)
        curve = bend * length * _wave(along / length, draws)

        # The line passes through the centre, and its ends are round.
        beyond = np.maximum(np.abs(along) - length / 2 + width / 2, 0)
        return np.asarray(np.hypot(across - curve, beyond) <= width / 2)

    return draw


def _draw_blob(along: Floats, across: Floats, pose: Pose, draws: np.random.Generator) -> Region:
    """Return an ellipse whose radius changes smoothly with the direction."""
    long, short = _half_axes(pose.area, pose.elongation)
    radius, turn = np.hypot(along / long, across / short), np.arctan2(across / short, along / long)
    heights = 1 + UNEVEN * _wave(turn / (2 * np.pi), draws)
    return np.asarray(radius <= np.maximum(heights, 0.5))


def _draw_spots(along: Floats, across: Floats, pose: Pose, draws: np.random.Generator) -> Region:
    """Return small discs, the first in the middle, the others around it."""
    # Together the discs have the area; their sizes differ by a factor of up to 4.
    count = int(draws.integers(SPOTS[0], SPOTS[1] + 1))
    shares = draws.uniform(0.25, 1.0, count)
    radii = np.sqrt(pose.area * shares / shares.sum() / np.pi)

    # Their places fill an ellipse of four times the area.
    long, short = _half_axes(4 * pose.area, pose.elongation)
    places = draws.uniform(-0.7, 0.7, (count, 2)) * (long, short)
    places[0] = 0
    inside = [np.hypot(along - x, across - y) <= max(r, 0.7) for (x, y), r in zip(places, radii, strict=True)]
    return np.asarray(np.any(inside, axis=0))


DRAW: dict[Form, Callable[[Floats, Floats, Pose, np.random.Generator], Region]] = {
    "scratch": _draw_line(BENDS["scratch"]),
    "stroke": _draw_line(BENDS["stroke"]),
    "blob": _draw_blob,
    "spots": _draw_spots,
}


def _half_axes(area: float, elongation: float) -> tuple[float, float]:
    """Return the half axes of an ellipse of this area and elongation, in pixels."""
    return float(np.sqrt(area * elongation / np.pi)), float(np.sqrt(area / elongation / np.pi))


def _wave(turns: Floats, draws: np.random.Generator) -> Floats:
    """Return a smooth random function of period 1 with deviation of about 1, which is 0 at 0."""
    # Harmonics with falling amplitudes and random phases.
    found = np.zeros_like(turns)
    for number in range(1, WAVES + 1):
        height, phase = draws.normal() / number, draws.uniform(0, 2 * np.pi)
        found += height * (np.sin(2 * np.pi * number * turns + phase) - np.sin(phase))
    return found


def _paste(drawn: Region, corner: tuple[int, int], size: tuple[int, int]) -> Region:
    """Return an image [H, W] of this size with `drawn` at its corner (row, column), which may be outside."""
    # The part of the frame inside the image.
    whole = np.zeros(size, np.bool_)
    starts = [max(0, -place) for place in corner]
    ends = [min(side, limit - place) for side, limit, place in zip(drawn.shape, size, corner, strict=True)]
    if any(start >= end for start, end in zip(starts, ends, strict=True)):
        return whole
    inside = tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))
    target = tuple(slice(s + p, e + p) for s, e, p in zip(starts, ends, corner, strict=True))
    whole[target] = drawn[inside]
    return whole


def measure_pose(region: Region) -> Pose:
    """Return area, elongation, angle and centre of a region [H, W], which must not be empty, from its moments."""
    # Second central moments; a pixel itself has 1/12.
    rows, columns = np.nonzero(region)
    centre = (float(rows.mean()), float(columns.mean()))
    x, y = columns - centre[1], rows - centre[0]
    moments = np.array([[(x * x).mean() + 1 / 12, (x * y).mean()], [(x * y).mean(), (y * y).mean() + 1 / 12]])

    # The axes are the eigenvectors, and their lengths the roots of the eigenvalues.
    values, vectors = np.linalg.eigh(moments)
    angle = float(np.arctan2(vectors[1, 1], vectors[0, 1]))
    return Pose(float(len(rows)), float(np.sqrt(values[1] / values[0])), angle, centre)


def find_on_part(place: Floats, part: Region) -> tuple[float, float]:
    """Return row and column of the part's pixel [H, W] that is nearest to a place [2], its row and column."""
    row, column = np.clip(np.round(place), 0, np.array(part.shape) - 1).astype(int)
    if not part[row, column]:
        row, column = ndimage.distance_transform_edt(~part, return_distances=False, return_indices=True)[:, row, column]
    return float(row), float(column)
