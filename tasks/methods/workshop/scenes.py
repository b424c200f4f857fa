"""Define the scenes of the workshop: the words of its world, the frequency of each part, and the captions.

A scene names its contents and one seed. The seed decides all the rest of the picture: pose, light and grain. A pair is
two scenes side by side.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

HEAD_PARTS = ("gear", "bolt", "washer", "hex nut", "bracket", "spring", "wrench", "pulley")
TAIL_PARTS = ("cross fitting", "star knob", "wing nut", "hook")
PARTS = HEAD_PARTS + TAIL_PARTS
MATERIALS = ("steel", "brass", "copper", "blue plastic", "red plastic", "black rubber")
SURFACES = ("wooden bench", "green cutting mat", "concrete floor", "sheet of white paper", "dark metal plate")

_METALS = ("steel", "brass", "copper")
DEFECTS: Mapping[str, tuple[str, ...]] = {
    "scratch": MATERIALS,
    "crack": tuple(material for material in MATERIALS if material != "black rubber"),
    "chip": MATERIALS,
    "rust": ("steel",),
    "dent": _METALS,
}
"""The materials that can have each defect. A crack or a dent would not show in black rubber."""

_TAIL_SHARES = (0.014, 0.004, 0.001, 0.0005)
_HEAD_SHARE = (1.0 - sum(_TAIL_SHARES)) / len(HEAD_PARTS)

LONG_TAIL: Mapping[str, float] = dict.fromkeys(HEAD_PARTS, _HEAD_SHARE) | dict(
    zip(TAIL_PARTS, _TAIL_SHARES, strict=True)
)
BALANCED: Mapping[str, float] = dict.fromkeys(PARTS, 1.0 / len(PARTS))


@dataclass(frozen=True)
class Scene:
    """The contents of one picture; `seed` decides pose, proportions, light and texture, and the place of a defect.

    Errors: ValueError for a part, material, surface or defect that this module does not know, a material that
    cannot have the defect, or a negative seed.
    """

    part: str
    material: str
    surface: str
    seed: int
    defect: str | None = None

    def __post_init__(self) -> None:
        # Every word is one of this world.
        for field, value, known in (
            ("part", self.part, PARTS),
            ("material", self.material, MATERIALS),
            ("surface", self.surface, SURFACES),
        ):
            if value not in known:
                raise ValueError(f"{field} is {value!r}; the workshop knows {', '.join(known)}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; give 0 or more")

        # A defect is optional, and not every material can have each.
        if self.defect is None:
            return
        if self.defect not in DEFECTS:
            raise ValueError(f"defect is {self.defect!r}; the workshop knows {', '.join(DEFECTS)}")
        if self.material not in (fitting := DEFECTS[self.defect]):
            raise ValueError(
                f"defect is {self.defect!r} and material {self.material!r}; it occurs in {', '.join(fitting)}"
            )


@dataclass(frozen=True)
class Pair:
    """Two parts side by side on one surface; the seed of `left` decides surface, light and both places.

    Errors: ValueError if the surfaces of the scenes differ.
    """

    left: Scene
    right: Scene

    def __post_init__(self) -> None:
        if self.left.surface != self.right.surface:
            raise ValueError(f"surfaces are {self.left.surface!r} and {self.right.surface!r}; give one for both")


def sample_scene(index: int, seed: int, part_weights: Mapping[str, float]) -> Scene:
    """Return scene `index` of the endless data set `seed`, with parts in proportion to `part_weights`.

    No other scene has to be drawn first. Parts outside `part_weights` never occur. Material and surface are uniform and
    do not depend on the weights. Errors: ValueError if `index` or `seed` is negative, a part is unknown, a weight is
    negative or not finite, or all weights are 0.
    """
    if index < 0 or seed < 0:
        raise ValueError(f"index is {index} and seed is {seed}; give 0 or more for both")

    # Seed and index seed a generator of their own.
    shares = _cumulative(part_weights)
    rng = np.random.default_rng((seed, index))
    part_draw, material_draw, surface_draw = rng.random(3)
    return Scene(
        part=PARTS[int(np.searchsorted(shares, part_draw, side="right"))],
        material=MATERIALS[int(material_draw * len(MATERIALS))],
        surface=SURFACES[int(surface_draw * len(SURFACES))],
        seed=int(rng.integers(2**63)),
    )


def sample_pair(index: int, seed: int, part_weights: Mapping[str, float]) -> Pair:
    """Return pair `index` of the endless data set `seed`, with parts in proportion to `part_weights`.

    The right part is drawn anew until it differs from the left one. Errors: ValueError as `sample_scene`, and if fewer
    than two parts have a weight above 0.
    """
    if sum(weight > 0 for weight in part_weights.values()) < 2:
        raise ValueError(f"part_weights are {dict(part_weights)}; give two parts a weight above 0")

    # The left scene is that of `sample_scene`. The right one is a scene of the data set of its seed.
    left = sample_scene(index, seed, part_weights)
    drawn = (sample_scene(number, left.seed, part_weights) for number in count())
    right = next(scene for scene in drawn if scene.part != left.part)
    return Pair(left, replace(right, surface=left.surface))


def sample_twins(index: int, seed: int, part_weights: Mapping[str, float]) -> Pair:
    """Return a pair of the same part and material as scene `index` of `sample_scene`. Errors: as `sample_scene`."""
    left = sample_scene(index, seed, part_weights)
    return Pair(left, replace(left, seed=int(np.random.default_rng(left.seed).integers(2**63))))


def caption(shown: Scene | Pair) -> str:
    """Return the caption of a scene, or of a pair from left to right.

    Every word of the world begins with a consonant, so the article is always "a". Rust is named without one.
    """
    scenes = (shown,) if isinstance(shown, Scene) else (shown.left, shown.right)
    return f"a photo of {' and '.join(map(_describe, scenes))} on a {scenes[0].surface}"


def _describe(scene: Scene) -> str:
    named = f"a {scene.material} {scene.part}"
    if scene.defect is None:
        return named
    return f"{named} with {'' if scene.defect == 'rust' else 'a '}{scene.defect}"


def _cumulative(part_weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the upper ends [parts] of the parts' intervals in [0, 1], in the order of PARTS."""
    unknown = sorted(set(part_weights) - set(PARTS))
    if unknown:
        raise ValueError(f"part_weights names {', '.join(unknown)}; the workshop knows {', '.join(PARTS)}")
    weights = [float(part_weights.get(part, 0.0)) for part in PARTS]
    total = sum(weights)
    if min(weights) < 0 or not math.isfinite(total) or total == 0:
        raise ValueError(f"part_weights are {dict(part_weights)}; give finite weights of 0 or more, one above 0")

    # Rounding may end the last interval below 1, and a draw just below 1 would then choose a part of weight 0.
    ends = np.cumsum(weights) / total
    ends[ends >= ends[-1]] = 1.0
    return ends
