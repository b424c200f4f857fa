"""Compute plane geometry on float32 grids: signed distances, bevelled heights and smooth value noise.

Distances are negative inside. x grows to the right, y downwards. Every function works element by element and keeps the
grid's shape, [H, W] or [N].
"""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.floating[Any]]
"""A float32 grid [H, W] or float32 samples [N]. The type names no width, because numpy's stubs lose it."""


def disc(x: Field, y: Field, radius: float) -> Field:
    """Return the distance to a disc about the origin."""
    return np.sqrt(x * x + y * y) - radius


def box(x: Field, y: Field, half_x: float, half_y: float) -> Field:
    """Return the distance to a box about the origin."""
    return corner(np.abs(x) - half_x, np.abs(y) - half_y)


def corner(over_x: Field, over_y: Field) -> Field:
    """Return the distance to the region where both excesses are negative."""
    # Euclidean outside, so that a blurred shadow has round corners without streaks.
    beyond_x, beyond_y = np.maximum(over_x, 0.0), np.maximum(over_y, 0.0)
    distance: Field = np.minimum(np.maximum(over_x, over_y), 0.0) + np.sqrt(beyond_x * beyond_x + beyond_y * beyond_y)
    return distance


def capsule(
    x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float]
) -> Field:
    """Return the distance to a stroke with round ends. Its radius changes linearly from `radii[0]` to `radii[1]`."""
    # Project each point on the stroke's axis: 0 at the start, 1 at the end.
    step_x, step_y = end[0] - start[0], end[1] - start[1]
    along = ((x - start[0]) * step_x + (y - start[1]) * step_y) / (step_x**2 + step_y**2)
    along = np.clip(along, 0.0, 1.0)

    # Distance to that point of the axis, less the radius there.
    gap_x, gap_y = x - start[0] - along * step_x, y - start[1] - along * step_y
    return np.sqrt(gap_x * gap_x + gap_y * gap_y) - (radii[0] + along * (radii[1] - radii[0]))


def hexagon(x: Field, y: Field, apothem: float) -> Field:
    """Return the distance to a regular hexagon with a flat side left and right; exact inside."""
    x, y = np.abs(x), np.abs(y)
    return np.maximum(x, 0.5 * x + math.sqrt(0.75) * y) - apothem


def fold(x: Field, y: Field, sectors: int) -> tuple[Field, Field]:
    """Rotate points into the first of `sectors` equal sectors, whose middle is the positive x axis."""
    # Subtract the nearest multiple of the sector's angle.
    width = 2.0 * math.pi / sectors
    angle = np.arctan2(y, x)
    angle -= width * np.round(angle / width)
    radius = np.sqrt(x * x + y * y)
    return radius * np.cos(angle), radius * np.sin(angle)


def chamfer(distance: Field, width: float, top: float) -> Field:
    """Return the height of a plate with a straight bevel of this width, a rounded crease and a flat face at `top`.

    Outside, the height is negative and keeps the slope. So differences across the outline measure the bevel.
    """
    # The parabola `crease` smooths the corner between bevel and face.
    rise = np.maximum(distance * (-1.0 / width), -1.0)
    crease = np.maximum(0.3 - np.abs(rise - 1.0), 0.0)
    height: Field = top * (np.minimum(rise, 1.0) - crease * crease * (1.0 / 1.2))
    return height


def fillet(distance: Field, width: float, top: float) -> Field:
    """Return the height of a parabolic edge that is flat after `width`, as on a round bar. Outside as `chamfer`."""
    rise = np.clip(distance * (-1.0 / width), -1.0, 1.0)
    height: Field = (top * rise) * (2.0 - rise)
    return height


def step(value: Field, low: float, high: float) -> Field:
    """Return a smooth step from 0 at `low` to 1 at `high`; `low` may exceed `high`."""
    # The cubic 3 r^2 - 2 r^3 has slope 0 at both ends.
    rise = np.clip((value - low) * (1.0 / (high - low)), 0.0, 1.0)
    smooth: Field = rise * rise * (3.0 - 2.0 * rise)
    return smooth


def value_noise(x: Field, y: Field, lattice: Field) -> Field:
    """Return smooth noise in about [-1, 1]. `lattice` [N, N] holds one value per unit of x and y, and repeats."""
    # Smoothed position inside a cell, 0 to 1 per axis.
    size = len(lattice)
    column, row = np.floor(x), np.floor(y)
    along_x, along_y = x - column, y - row
    along_x = along_x * along_x * (3.0 - 2.0 * along_x)
    along_y = along_y * along_y * (3.0 - 2.0 * along_y)

    # Interpolate between the four corners of the cell.
    left, up = column.astype(np.int32) % size, row.astype(np.int32) % size
    right, down = (left + 1) % size, (up + 1) % size
    upper = lattice[up, left] * (1.0 - along_x) + lattice[up, right] * along_x
    lower = lattice[down, left] * (1.0 - along_x) + lattice[down, right] * along_x
    return upper * (1.0 - along_y) + lower * along_y


def draw_lattice(rng: np.random.Generator, size: int = 32) -> Field:
    """Return uniform values [size, size] in [-1, 1] for `value_noise`."""
    return rng.random((size, size), dtype=np.float32) * 2.0 - 1.0
