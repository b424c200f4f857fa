"""Render the picture and masks of a scene or a pair: place each solid, light it, and put it on the surface.

Frame coordinates run from -1 to 1 on both axes, so the composition is the same at every size. The part has 3 x 3
samples per pixel. Surface and shadow are smooth by construction and have one sample per pixel.

Letters of shapes: H and W rows and columns of pixels, N samples inside the part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.workshop.defects import Flaw, draw_flaw
from tailforge.tasks.methods.workshop.fields import Field, draw_lattice, step
from tailforge.tasks.methods.workshop.materials import FINISHES
from tailforge.tasks.methods.workshop.parts import LATHED, SOLIDS, Solid
from tailforge.tasks.methods.workshop.poses import Pose, draw_pair_poses, draw_pose, light_up
from tailforge.tasks.methods.workshop.scenes import Pair, Scene
from tailforge.tasks.methods.workshop.surfaces import TEXTURES

VERSION = "workshop.1"
SAMPLES = 3  # per pixel and axis
MIN_SIZE_PX, MAX_SIZE_PX = 16, 1024


@dataclass(frozen=True)
class Rendering:
    """A picture, uint8 [H, W, 3] in sRGB, and the masks of the part and of its defect, bool [H, W].

    `mask` holds the pixels of which the part covers at least half, holes of the part left out. `defect` holds those of
    which the defect covers at least half, a chip's missing material included. The two overlap.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    defect: NDArray[np.bool_]


@dataclass(frozen=True)
class PairRendering:
    """A picture, uint8 [H, W, 3] in sRGB, and the masks of its left and its right part, bool [2, H, W]."""

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]


def render(scene: Scene, size_px: int = 64) -> Rendering:
    """Render a scene as a square picture of `size_px` pixels per side. Equal scenes and sizes become equal bytes.

    Pose with light, proportions, surface, finish and defect each have their own stream of random numbers. So another
    material or surface changes neither the mask nor the light, and a defect changes no pixel that it does not touch:
    even a chipped part keeps the shadow of a whole one. Errors: ValueError if `size_px` is outside 16 to 1024.
    """
    pose = draw_pose(scene.part, np.random.default_rng((scene.seed, 0)))
    image, (layer,) = _compose([_place(scene, pose)], scene, size_px)
    return Rendering(image, layer.coverage >= 0.5, layer.defect >= 0.5)


def render_pair(pair: Pair, size_px: int = 64) -> PairRendering:
    """Render two parts side by side, each about half as large as alone. Equal pairs and sizes become equal bytes.

    Errors: ValueError if `size_px` is outside 16 to 1024.
    """
    poses = draw_pair_poses(np.random.default_rng((pair.left.seed, 5)))
    placed = [_place(scene, pose) for scene, pose in zip((pair.left, pair.right), poses, strict=True)]
    image, layers = _compose(placed, pair.left, size_px)
    return PairRendering(image, np.stack([layer.coverage >= 0.5 for layer in layers]))


class _Placed(NamedTuple):
    """A part in its pose, with its defect or none, and the noise of its finish [M, M]."""

    scene: Scene
    pose: Pose
    solid: Solid
    flaw: Flaw | None
    lattice: Field


class _Layer(NamedTuple):
    """A part's colours times coverage [3, H, W], its coverage [H, W] and that of its defect [H, W], in [0, 1]."""

    paint: Field
    coverage: Field
    defect: Field


def _place(scene: Scene, pose: Pose) -> _Placed:
    # One stream of random numbers per subject; numbers 0 and 2 are those of pose and surface.
    part_rng, finish_rng, flaw_rng = (np.random.default_rng((scene.seed, k)) for k in (1, 3, 4))
    solid = SOLIDS[scene.part](part_rng)
    flaw = None if scene.defect is None else draw_flaw(scene.defect, solid, flaw_rng)
    return _Placed(scene, pose, solid, flaw, draw_lattice(finish_rng))


def _compose(placed: Sequence[_Placed], ground: Scene, size_px: int) -> tuple[NDArray[np.uint8], list[_Layer]]:
    """Return the picture [H, W, 3] of parts on the surface of `ground`, and their layers."""
    if not MIN_SIZE_PX <= size_px <= MAX_SIZE_PX:
        raise ValueError(f"size_px is {size_px}; give {MIN_SIZE_PX} to {MAX_SIZE_PX}")

    # The surface under the parts' shadows.
    x, y = _grid(size_px)
    colours = TEXTURES[ground.surface](x, y, 2.0 / size_px, np.random.default_rng((ground.seed, 2)))
    colours = colours * _shade(x, y, placed)

    # Composite the parts over it, and round to 8 bits.
    layers = [_draw_part(each, size_px) for each in placed]
    for layer in layers:
        uncovered = 1.0 - layer.coverage
        colours = colours * uncovered + layer.paint
    image = (np.clip(colours, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0)), layers


def _grid(size: int) -> tuple[Field, Field]:
    """Return the centres x and y [size, size] of the frame's cells."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


def _shade(x: Field, y: Field, placed: Sequence[_Placed]) -> Field:
    """Return the light [H, W] on the surface: a slow falloff, the parts' cast shadows, and darkness at the contacts."""
    # The light weakens with the distance.
    towards = placed[0].pose.light
    light = 1.0 + 0.07 * (x * towards[0] + y * towards[1])
    for each in placed:
        # The shadow is the mean of three outlines at growing heights, shifted away from the light and softer each time.
        pose, solid = each.pose, each.solid
        reach = pose.scale * 0.20 / pose.light[2]
        shadow = np.zeros_like(light)
        for share in (0.25, 0.6, 1.0):
            shift = share * reach
            distance = solid(*pose.local(x + shift * pose.light[0], y + shift * pose.light[1]))[0] * pose.scale
            shadow += step(distance, 0.03 + 0.05 * share, -0.03 - 0.05 * share) / 3.0

        # Little light reaches the surface beside the part.
        contact = solid(*pose.local(x, y))[0] * pose.scale
        light = light * (1.0 - 0.50 * shadow) * (1.0 - 0.30 * step(contact, 0.12, -0.02))
    return light


def _draw_part(placed: _Placed, size_px: int) -> _Layer:
    # The solid on the fine grid.
    pose = placed.pose
    x, y = _grid(size_px * SAMPLES)
    local_x, local_y = pose.local(x, y)
    distance, height = placed.solid(local_x, local_y)
    inside = distance < 0.0

    # The defect lowers the surface.
    mark = placed.flaw(local_x, local_y) if placed.flaw else None
    relief = height if mark is None else height - mark.depth * inside
    slopes = _slopes(relief * pose.scale, 2.0 / (size_px * SAMPLES))

    # Light the samples inside the part only. A defect leaves the openness as it was, so it changes nothing elsewhere.
    lighting = light_up(
        pose,
        (x[inside], y[inside]),
        (local_x[inside], local_y[inside]),
        (slopes[0][inside], slopes[1][inside]),
        placed.scene.part in LATHED,
        height[inside],
        placed.lattice,
    )
    fine = np.zeros((3, *inside.shape), dtype=np.float32)
    fine[:, inside] = np.clip(FINISHES[placed.scene.material](lighting), 0.0, 1.0)
    if mark is None:
        return _Layer(_pool(fine), _pool(inside.astype(np.float32)), np.zeros((size_px, size_px), np.float32))

    # Mix in the defect's colour, and remove what is gone.
    fine += mark.opacity * (mark.colour - fine) * inside
    fine[:, mark.gone] = 0.0
    touched, left = inside & (mark.distance < 0.0), inside & ~mark.gone
    return _Layer(_pool(fine), _pool(left.astype(np.float32)), _pool(touched.astype(np.float32)))


def _slopes(height: Field, cell: float) -> tuple[Field, Field]:
    """Return the central differences of `height` [H, W] along x and y, [H, W] each; 0 at the frame's border."""
    along_x, along_y = np.zeros_like(height), np.zeros_like(height)
    along_x[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * (0.5 / cell)
    along_y[1:-1] = (height[2:] - height[:-2]) * (0.5 / cell)
    return along_x, along_y


def _pool(fine: Field) -> Field:
    """Return the means [..., H, W] over SAMPLES x SAMPLES cells of the last two axes."""
    total = fine[..., ::SAMPLES, ::SAMPLES].copy()
    for row, column in list(np.ndindex(SAMPLES, SAMPLES))[1:]:
        total += fine[..., row::SAMPLES, column::SAMPLES]
    return total * np.float32(1.0 / SAMPLES**2)
