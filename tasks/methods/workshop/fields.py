"""Plane geometry on float32 grids: signed distances (negative inside), bevelled heights and smooth value noise.

Legend: x grows to the right and y downwards; every function works element by element and keeps the grid's shape.
"""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.floating[Any]]
"""A float32 grid, or float32 samples; numpy's stubs lose the width at every Python float, numpy itself does not."""


def disc(x: Field, y: Field, radius: float) -> Field:
    """Distance to a disc about the origin."""
    return np.sqrt(x * x + y * y) - radius


def box(x: Field, y: Field, half_x: float, half_y: float) -> Field:
    """Distance to a box about the origin."""
    return corner(np.abs(x) - half_x, np.abs(y) - half_y)


def corner(over_x: Field, over_y: Field) -> Field:
    """Distance to the region where both excesses are negative: round outside, so that shadows have no whiskers."""
    beyond_x, beyond_y = np.maximum(over_x, 0.0), np.maximum(over_y, 0.0)
    distance: Field = np.minimum(np.maximum(over_x, over_y), 0.0) + np.sqrt(beyond_x * beyond_x + beyond_y * beyond_y)
    return distance


def capsule(
    x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float]
) -> Field:
    """Distance to a stroke with round ends whose radius goes linearly from `radii[0]` to `radii[1]`."""
    step_x, step_y = end[0] - start[0], end[1] - start[1]
    along = ((x - start[0]) * step_x + (y - start[1]) * step_y) / (step_x**2 + step_y**2)
    along = np.clip(along, 0.0, 1.0)
    gap_x, gap_y = x - start[0] - along * step_x, y - start[1] - along * step_y
    return np.sqrt(gap_x * gap_x + gap_y * gap_y) - (radii[0] + along * (radii[1] - radii[0]))


def hexagon(x: Field, y: Field, apothem: float) -> Field:
    """Distance to a regular hexagon with two flat sides left and right; exact inside."""
    x, y = np.abs(x), np.abs(y)
    return np.maximum(x, 0.5 * x + math.sqrt(0.75) * y) - apothem


def fold(x: Field, y: Field, sectors: int) -> tuple[Field, Field]:
    """Coordinates turned into the first of `sectors` equal sectors, whose middle is the positive x axis."""
    width = 2.0 * math.pi / sectors
    angle = np.arctan2(y, x)
    angle -= width * np.round(angle / width)
    radius = np.sqrt(x * x + y * y)
    return radius * np.cos(angle), radius * np.sin(angle)


def chamfer(distance: Field, width: float, top: float) -> Field:
    """Height of a plate with a straight bevel `width` wide, a rounded crease and a flat face at `top`.

    The slope goes on below 0 outside, so that differences across the outline see a bevel and not its foot.
    """
    rise = np.maximum(distance * (-1.0 / width), -1.0)
    crease = np.maximum(0.3 - np.abs(rise - 1.0), 0.0)
    height: Field = top * (np.minimum(rise, 1.0) - crease * crease * (1.0 / 1.2))
    return height


def fillet(distance: Field, width: float, top: float) -> Field:
    """Height with a parabolic edge, level after `width`: the look of a round bar; goes on below 0 like `chamfer`."""
    rise = np.clip(distance * (-1.0 / width), -1.0, 1.0)
    height: Field = (top * rise) * (2.0 - rise)
    return height


def step(value: Field, low: float, high: float) -> Field:
    """Smooth step from 0 at `low` to 1 at `high`; `low` may be the larger."""
    rise = np.clip((value - low) * (1.0 / (high - low)), 0.0, 1.0)
    smooth: Field = rise * rise * (3.0 - 2.0 * rise)
    return smooth


def value_noise(x: Field, y: Field, lattice: Field) -> Field:
    """Smooth noise in about [-1, 1]: `lattice` [N, N] repeats for ever, one value a unit of x and y."""
    size = len(lattice)
    column, row = np.floor(x), np.floor(y)
    along_x, along_y = x - column, y - row
    along_x = along_x * along_x * (3.0 - 2.0 * along_x)
    along_y = along_y * along_y * (3.0 - 2.0 * along_y)
    left, up = column.astype(np.int32) % size, row.astype(np.int32) % size
    right, down = (left + 1) % size, (up + 1) % size
    upper = lattice[up, left] * (1.0 - along_x) + lattice[up, right] * along_x
    lower = lattice[down, left] * (1.0 - along_x) + lattice[down, right] * along_x
    return upper * (1.0 - along_y) + lower * along_y


def draw_lattice(rng: np.random.Generator, size: int = 32) -> Field:
    """Values in [-1, 1] for `value_noise`."""
    return rng.random((size, size), dtype=np.float32) * 2.0 - 1.0
