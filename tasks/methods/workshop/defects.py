"""Define five defects of a part: scratch, crack, chip, rust and dent, each an exact region with a depth and a colour.

Coordinates are the part's own, in units of its radius. A defect's place is drawn on the part from a grid of fixed size,
so the composition is the same at every picture size. Shapes and colours are our choice, made for 64 pixels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.workshop.fields import Field, capsule, draw_lattice, step, value_noise
from tailforge.tasks.methods.workshop.parts import Solid

GRID = 96  # cells per side on which places are compared
CANDIDATES = 16  # places drawn per defect; the one that fits best is kept


@dataclass(frozen=True)
class Mark:
    """A defect at the points of a grid [H, W].

    `distance` is negative inside the defect. `depth` is how much lower the part's surface is, in part units. `opacity`,
    in [0, 1], mixes the part's colour with `colour` [3, H, W]. Where `gone` is true, the part's material is missing.
    """

    distance: Field
    depth: Field
    opacity: Field
    colour: Field
    gone: NDArray[np.bool_]


Flaw: TypeAlias = Callable[[Field, Field], Mark]
"""Maps a part's x and y [H, W] to the defect there."""


def draw_flaw(kind: str, solid: Solid, rng: np.random.Generator) -> Flaw:
    """Return a defect of this kind on a part, at the best of some drawn places.

    A chip is best with half its area on the part, every other defect with all of it. Errors: KeyError for an unknown
    kind.
    """
    # Candidate places are inside the part; a chip's are at its outline.
    axis = ((np.arange(GRID) + 0.5) * (2.4 / GRID) - 1.2).astype(np.float32)
    x, y = np.broadcast_to(axis, (GRID, GRID)), np.broadcast_to(axis[:, None], (GRID, GRID))
    depth = -solid(x, y)[0]
    chipped = kind == "chip"
    rows, columns = np.nonzero((depth > 0.0) & (depth < 0.05) if chipped else depth > min(0.06, 0.8 * depth.max()))
    flaw, share = KINDS[kind](rng), 0.5 if chipped else 1.0

    # Turn and move the one shape to every candidate.
    def miss(placed: Flaw) -> float:
        # How far the share of its area on the part is from the best one.
        marked = placed(x, y).distance < 0.0
        return abs(float((marked & (depth > 0.0)).sum() / max(1, marked.sum())) - share)

    turns = rng.uniform(-math.pi, math.pi, CANDIDATES)
    chosen = rng.integers(len(rows), size=CANDIDATES)
    places = [_place(flaw, axis[columns[k]], axis[rows[k]], turn) for k, turn in zip(chosen, turns, strict=True)]
    return min(places, key=miss)


def scratch(rng: np.random.Generator) -> Flaw:
    """Return one to three fine, nearly parallel grooves with bright bare material."""
    # Grooves beside each other, of different lengths and directions.
    strokes = []
    for number in range(int(rng.integers(1, 4))):
        half, tilt, shift = rng.uniform(0.35, 0.60), rng.uniform(-0.10, 0.10), rng.uniform(-0.2, 0.2)
        across = 0.15 * number
        strokes.append(((shift - half, across - tilt * half), (shift + half, across + tilt * half)))
    radius = rng.uniform(0.038, 0.048)

    def flaw(x: Field, y: Field) -> Mark:
        # A groove is deepest in its middle, and thin at both ends.
        distance = np.minimum.reduce([capsule(x, y, start, end, (radius, 0.8 * radius)) for start, end in strokes])
        groove = np.clip(-distance / radius, 0.0, 1.0)
        return _mark(distance, 0.05 * groove, 0.60 * step(groove, 0.0, 0.4), (0.93, 0.93, 0.91))

    return flaw


def crack(rng: np.random.Generator) -> Flaw:
    """Return a dark jagged line with one branch, thinner towards its ends."""
    # A walk of straight pieces with sharp turns.
    points, heading = [(0.0, 0.0)], 0.0
    for turn in rng.uniform(0.25, 0.75, size=6) * np.resize([1.0, -1.0], 6):
        heading = 0.4 * heading + turn
        length = rng.uniform(0.13, 0.22)
        points.append((points[-1][0] + length * math.cos(heading), points[-1][1] + length * math.sin(heading)))
    middle_x, middle_y = points[3]
    points = [(x - middle_x, y - middle_y) for x, y in points]

    # The branch leaves at a middle point.
    fork, side = points[int(rng.integers(2, 5))], rng.choice([-1.0, 1.0]) * rng.uniform(0.6, 1.1)
    reach = rng.uniform(0.18, 0.32)
    branch = (fork[0] + reach * math.cos(side), fork[1] + reach * math.sin(side))
    radii = np.interp(np.linspace(0.0, 1.0, len(points)), [0.0, 0.5, 1.0], [0.036, 0.050, 0.036])

    def flaw(x: Field, y: Field) -> Mark:
        # All pieces are one gap, dark because no light reaches its floor.
        pieces = [capsule(x, y, points[k], points[k + 1], (radii[k], radii[k + 1])) for k in range(len(points) - 1)]
        distance = np.minimum.reduce([*pieces, capsule(x, y, fork, branch, (0.042, 0.034))])
        return _mark(
            distance, 0.04 * step(distance, 0.0, -0.04), 0.88 * step(distance, 0.0, -0.02), (0.05, 0.045, 0.04)
        )

    return flaw


def chip(rng: np.random.Generator) -> Flaw:
    """Return a bite out of the part's edge: material is missing, behind a pale, rough fracture."""
    # An angular outline: the straight cuts of an uneven polygon.
    radius, rim = rng.uniform(0.19, 0.25), rng.uniform(0.06, 0.09)
    angles = np.sort(rng.uniform(0.0, 2.0 * math.pi, 3)) + np.array([0.0, 0.4, 0.8])
    angles = np.concatenate([angles, angles + math.pi])
    reach = radius * rng.uniform(0.80, 1.10, len(angles))
    lattice = draw_lattice(rng)

    def flaw(x: Field, y: Field) -> Mark:
        # Outside the inner outline the fracture rises to the face.
        cuts = [x * math.cos(a) + y * math.sin(a) - r for a, r in zip(angles, reach, strict=True)]
        distance = np.maximum.reduce([*cuts, np.sqrt(x * x + y * y) - 1.1 * radius])
        fall = np.clip(-distance / rim, 0.0, 1.0)
        rough = value_noise(x * 14.0, y * 14.0, lattice)
        depth = 0.10 * fall + np.where(distance < 0.0, 0.02 * rough, 0.0)
        pale = (0.70 + 0.10 * rough, 0.68 + 0.10 * rough, 0.65 + 0.10 * rough)
        return _mark(distance, depth, 0.65 * step(fall, 0.0, 0.2), pale, distance < -rim)

    return flaw


def rust(rng: np.random.Generator) -> Flaw:
    """Return a blotch of brown to orange rust with a ragged outline and small spots around it."""
    # One large blob and a few small ones, all displaced by the same noise.
    places = rng.uniform(-0.30, 0.30, size=(5, 2))
    radii = np.concatenate([rng.uniform(0.20, 0.28, 1), rng.uniform(0.05, 0.12, 4)])
    places[0] = 0.0
    outline, tones = draw_lattice(rng), draw_lattice(rng)

    def flaw(x: Field, y: Field) -> Mark:
        # The outline is ragged at two scales.
        ragged = 0.07 * value_noise(x * 6.0, y * 6.0, outline) + 0.03 * value_noise(x * 15.0, y * 15.0, outline)
        blobs = [np.sqrt((x - px) ** 2 + (y - py) ** 2) - r for (px, py), r in zip(places, radii, strict=True)]
        distance = np.minimum.reduce(blobs) + ragged

        # Dark brown scale and orange dust, in patches.
        amount = np.clip(0.5 + 0.6 * value_noise(x * 9.0, y * 9.0, tones), 0.0, 1.0)
        colour = tuple(dark + (light - dark) * amount for dark, light in ((0.30, 0.66), (0.13, 0.33), (0.06, 0.10)))
        crust = np.where(distance < 0.0, -0.02 * value_noise(x * 12.0, y * 12.0, tones), 0.0)
        return _mark(distance, crust, 0.90 * step(distance, 0.0, -0.05), colour)

    return flaw


def dent(rng: np.random.Generator) -> Flaw:
    """Return a smooth oval hollow that less of the sky reaches."""
    long, short = rng.uniform(0.24, 0.32), rng.uniform(0.17, 0.23)
    deep = rng.uniform(0.55, 0.75) * short

    def flaw(x: Field, y: Field) -> Mark:
        # A parabolic bowl with a sharp rim, so its slope is steepest where it begins.
        radius = np.sqrt((x / long) ** 2 + (y / short) ** 2)
        bowl = np.clip(1.0 - radius * radius, 0.0, 1.0)
        return _mark((radius - 1.0) * short, deep * bowl, 0.28 * step(bowl, 0.0, 0.5), (0.06, 0.06, 0.07))

    return flaw


KINDS: Mapping[str, Callable[[np.random.Generator], Flaw]] = {
    "scratch": scratch,
    "crack": crack,
    "chip": chip,
    "rust": rust,
    "dent": dent,
}


def _mark(
    distance: Field,
    depth: Field,
    opacity: Field,
    colour: tuple[Field | float, ...],
    gone: NDArray[np.bool_] | None = None,
) -> Mark:
    """Return a mark; `colour` is one number or one field [H, W] per channel."""
    # float32 throughout, so a part keeps its exact shading outside the defect.
    painted = np.stack([np.broadcast_to(np.asarray(channel, np.float32), distance.shape) for channel in colour])
    missing = np.zeros(distance.shape, np.bool_) if gone is None else gone
    return Mark(distance, depth.astype(np.float32), opacity.astype(np.float32), painted, missing)


def _place(flaw: Flaw, centre_x: float, centre_y: float, angle: float) -> Flaw:
    """Return the same defect, moved to a centre in the part's coordinates and turned by an angle in radians."""
    cosine, sine = math.cos(angle), math.sin(angle)

    def placed(x: Field, y: Field) -> Mark:
        # Into the defect's own coordinates.
        x, y = x - centre_x, y - centre_y
        return flaw(x * cosine + y * sine, y * cosine - x * sine)

    return placed
