"""Compute the colours of the six materials under light: brushed metal, glossy plastic and dull rubber.

Shapes: N is the number of lit samples. Vectors are [N] per axis, colours [3, N] in about [0, 1], not clipped. The
appearance is our choice, made for 64 pixels. It follows no published reflectance model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tailforge.tasks.methods.workshop.fields import Field, step

Vector: TypeAlias = tuple[Field, Field, Field]


@dataclass(frozen=True)
class Lighting:
    """The light at the samples [N]: unit vectors `normal` and `mirror` (the reflected view), and the unit `light`.

    `grain` is the streak of the brushing, in [-1, 1]. `along` is the cosine between the light's halfway vector and the
    brush strokes. `openness`, in [0, 1], is the share of the sky that reaches the sample.
    """

    normal: Vector
    mirror: Vector
    light: tuple[float, float, float]
    grain: Field
    along: Field
    openness: Field


Finish: TypeAlias = Callable[[Lighting], Field]


def _metal(tint: tuple[float, float, float], dark: tuple[float, float, float]) -> Finish:
    def finish(seen: Lighting) -> Field:
        # A metal reflects a studio: the sky, a weaker light opposite, and a softbox at the light.
        towards = _dot(seen.mirror, seen.light)
        sky = 0.12 + 0.74 * step(towards, -0.20, 1.0)
        counter = 0.34 * step(towards, -0.20, -0.70)
        softbox = step(towards, 0.80, 0.95)

        # Brushing spreads the highlight across the strokes.
        streak = np.clip(1.0 - seen.along * seen.along, 0.0, 1.0) ** 12
        energy = sky + counter + 0.36 * streak * seen.normal[2] + 0.55 * softbox + 0.06 * seen.grain
        return _tone(energy * (0.66 + 0.34 * seen.openness), dark, tint)

    return finish


def _plastic(colour: tuple[float, float, float]) -> Finish:
    def finish(seen: Lighting) -> Field:
        # Diffuse light, a sharp white highlight and a bright rim.
        facing = np.clip(_dot(seen.normal, seen.light), 0.0, 1.0)
        glint = step(_dot(seen.mirror, seen.light), 0.88, 1.0)
        rim = 1.0 - seen.normal[2]
        lit = (0.36 + 0.78 * facing) * (0.60 + 0.40 * seen.openness) + 0.10 * rim
        colours: Field = _column(colour) * lit + 0.62 * glint
        return colours

    return finish


def _rubber(colour: tuple[float, float, float]) -> Finish:
    def finish(seen: Lighting) -> Field:
        # Diffuse light and a wide, weak highlight.
        facing = np.clip(_dot(seen.normal, seen.light), 0.0, 1.0)
        sheen = step(_dot(seen.mirror, seen.light), 0.45, 1.0)
        lit = (0.45 + 0.75 * facing) * (0.55 + 0.45 * seen.openness)
        colours: Field = _column(colour) * lit + 0.19 * sheen * sheen
        return colours

    return finish


FINISHES: Mapping[str, Finish] = {
    "steel": _metal((0.79, 0.82, 0.87), (0.11, 0.12, 0.14)),
    "brass": _metal((0.90, 0.74, 0.26), (0.20, 0.13, 0.02)),
    "copper": _metal((0.90, 0.50, 0.31), (0.21, 0.07, 0.03)),
    "blue plastic": _plastic((0.14, 0.34, 0.86)),
    "red plastic": _plastic((0.86, 0.12, 0.13)),
    "black rubber": _rubber((0.10, 0.10, 0.105)),
}


def _tone(energy: Field, dark: tuple[float, float, float], tint: tuple[float, float, float]) -> Field:
    """Return a metal's colours [3, N] for reflected energy [N]: `dark` at 0, `tint` at 0.8, then towards white."""
    # Mix with the tint first, then with white.
    body = np.clip(energy * 1.2, 0.0, 1.0)
    glare = np.clip((energy - 0.78) * 1.3, 0.0, 0.9)
    base = _column(dark) + (_column(tint) - _column(dark)) * body
    colours: Field = base + (1.0 - base) * glare
    return colours


def _dot(vector: Vector, light: tuple[float, float, float]) -> Field:
    cosine: Field = vector[0] * light[0] + vector[1] * light[1] + vector[2] * light[2]
    return cosine


def _column(rgb: tuple[float, float, float]) -> Field:
    return np.array(rgb, dtype=np.float32)[:, None]
