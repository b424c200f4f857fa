"""Render the picture and mask of a scene: place the solid, light it, and put it with its shadow on the surface.

Frame coordinates run from -1 to 1 on both axes, so the composition is the same at every size. The part has 3 x 3
samples per pixel. Surface and shadow are smooth by construction and have one sample per pixel.

Letters of shapes: H and W rows and columns of pixels, N samples inside the part.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.workshop.fields import Field, draw_lattice, step, value_noise
from tailforge.tasks.methods.workshop.materials import FINISHES, Lighting
from tailforge.tasks.methods.workshop.parts import LATHED, LONG, SOLIDS, Solid
from tailforge.tasks.methods.workshop.scenes import Scene
from tailforge.tasks.methods.workshop.surfaces import TEXTURES

VERSION = "workshop.1"
SAMPLES = 3  # per pixel and axis
MIN_SIZE_PX, MAX_SIZE_PX = 16, 1024


@dataclass(frozen=True)
class Rendering:
    """A picture, uint8 [H, W, 3] in sRGB, and the part's mask, bool [H, W], without holes of the part.

    The mask holds the pixels of which the part covers at least half.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Pose:
    """Position of part and light; lengths in frame units, angles in radians. `light`: unit vector towards the light."""

    centre: tuple[float, float]
    angle: float
    scale: float
    mirrored: bool
    light: tuple[float, float, float]

    def local(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Convert frame coordinates to the part's own, in units of its radius; shapes stay."""
        # Shift, rotate and scale, then mirror.
        cosine, sine = math.cos(self.angle) / self.scale, math.sin(self.angle) / self.scale
        x, y = x - self.centre[0], y - self.centre[1]
        across = y * cosine - x * sine
        return x * cosine + y * sine, -across if self.mirrored else across


def render(scene: Scene, size_px: int = 64) -> Rendering:
    """Render a scene as a square picture of `size_px` pixels per side. Equal scenes and sizes become equal bytes.

    Pose with light, proportions, surface and finish each have their own stream of random numbers. So another material
    or surface changes neither the mask nor the light. Errors: ValueError if `size_px` is outside 16 to 1024.
    """
    if not MIN_SIZE_PX <= size_px <= MAX_SIZE_PX:
        raise ValueError(f"size_px is {size_px}; give {MIN_SIZE_PX} to {MAX_SIZE_PX}")

    # One stream of random numbers per subject.
    pose_rng, part_rng, surface_rng, finish_rng = (np.random.default_rng((scene.seed, k)) for k in range(4))
    pose = _draw_pose(scene.part, pose_rng)
    solid = SOLIDS[scene.part](part_rng)

    # The surface under the part's shadow.
    x, y = _grid(size_px)
    ground = TEXTURES[scene.surface](x, y, 2.0 / size_px, surface_rng)
    ground = ground * _shade(x, y, pose, solid)

    # Composite the part over it, and round to 8 bits.
    paint, coverage = _draw_part(scene, size_px, pose, solid, finish_rng)
    colours = ground * (1.0 - coverage) + paint
    image = (np.clip(colours, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return Rendering(np.ascontiguousarray(image.transpose(1, 2, 0)), coverage >= 0.5)


def _draw_pose(part: str, rng: np.random.Generator) -> _Pose:
    # The part stays about inside the frame. The light comes from above, 37 to 54 degrees high.
    scale = rng.uniform(0.72, 0.86) if part in LONG else rng.uniform(0.56, 0.84)
    room = max(0.95 - scale, 0.08)
    azimuth, elevation = rng.uniform(-0.85, -0.15) * math.pi, rng.uniform(0.65, 0.95)
    flat = math.cos(elevation)
    return _Pose(
        centre=(rng.uniform(-room, room), rng.uniform(-room, room)),
        angle=rng.uniform(-math.pi, math.pi),
        scale=scale,
        mirrored=bool(rng.random() < 0.5),
        light=(flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)),
    )


def _grid(size: int) -> tuple[Field, Field]:
    """Return the centres x and y [size, size] of the frame's cells."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


def _shade(x: Field, y: Field, pose: _Pose, solid: Solid) -> Field:
    """Return the light [H, W] on the surface: a slow falloff, the part's cast shadow, and darkness at the contact."""
    # The light weakens with the distance.
    falloff = 1.0 + 0.07 * (x * pose.light[0] + y * pose.light[1])

    # The shadow is the mean of three outlines at growing heights, shifted away from the light and softer each time.
    reach = pose.scale * 0.20 / pose.light[2]
    shadow = np.zeros_like(falloff)
    for share in (0.25, 0.6, 1.0):
        shift = share * reach
        distance = solid(*pose.local(x + shift * pose.light[0], y + shift * pose.light[1]))[0] * pose.scale
        shadow += step(distance, 0.03 + 0.05 * share, -0.03 - 0.05 * share) / 3.0

    # Little light reaches the surface beside the part.
    contact = solid(*pose.local(x, y))[0] * pose.scale
    return falloff * (1.0 - 0.50 * shadow) * (1.0 - 0.30 * step(contact, 0.12, -0.02))


def _draw_part(scene: Scene, size_px: int, pose: _Pose, solid: Solid, rng: np.random.Generator) -> tuple[Field, Field]:
    """Return the part's colours times coverage, [3, H, W], and its coverage [H, W] in [0, 1]."""
    # The solid on the fine grid.
    x, y = _grid(size_px * SAMPLES)
    local_x, local_y = pose.local(x, y)
    distance, height = solid(local_x, local_y)
    inside = distance < 0.0
    slopes = _slopes(height * pose.scale, 2.0 / (size_px * SAMPLES))

    # Light the samples inside the part only.
    lighting = _light_up(
        pose,
        (x[inside], y[inside]),
        (local_x[inside], local_y[inside]),
        (slopes[0][inside], slopes[1][inside]),
        scene.part in LATHED,
        height[inside],
        draw_lattice(rng),
    )

    # Average the samples of each pixel.
    fine = np.zeros((3, *inside.shape), dtype=np.float32)
    fine[:, inside] = np.clip(FINISHES[scene.material](lighting), 0.0, 1.0)
    return _pool(fine), _pool(inside.astype(np.float32))


def _slopes(height: Field, cell: float) -> tuple[Field, Field]:
    """Return the central differences of `height` [H, W] along x and y, [H, W] each; 0 at the frame's border."""
    along_x, along_y = np.zeros_like(height), np.zeros_like(height)
    along_x[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * (0.5 / cell)
    along_y[1:-1] = (height[2:] - height[:-2]) * (0.5 / cell)
    return along_x, along_y


def _light_up(
    pose: _Pose,
    frame: tuple[Field, Field],
    local: tuple[Field, Field],
    slopes: tuple[Field, Field],
    lathed: bool,
    height: Field,
    lattice: Field,
) -> Lighting:
    """Return normals, reflections and brushing of the samples inside the part.

    All fields are [N], `lattice` is [M, M].
    """
    # The normal of a height field is (-dh/dx, -dh/dy, 1), scaled to unit length.
    length = 1.0 / np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + 1.0)
    normal = (-slopes[0] * length, -slopes[1] * length, length)

    # Reflect the view: mirror = 2 (normal . eye) normal - eye. A near eye lets the shade of flat faces vary.
    eye = (-0.35 * frame[0], -0.35 * frame[1], 0.95)
    facing = 2.0 * (normal[0] * eye[0] + normal[1] * eye[1] + normal[2] * eye[2])
    mirror = (facing * normal[0] - eye[0], facing * normal[1] - eye[1], facing * normal[2] - eye[2])

    # Brushing, and the cosine of its strokes with the halfway vector.
    stroke_x, stroke_y, grain = _brush(pose, local, lathed, lattice)
    half = (pose.light[0] + eye[0], pose.light[1] + eye[1])
    along = (half[0] * stroke_x + half[1] * stroke_y) * 0.8

    # High samples see more of the sky.
    openness = np.clip(0.35 + height * (0.65 / max(float(height.max(initial=0.0)), 1e-6)), 0.0, 1.0)
    return Lighting(normal, mirror, pose.light, grain, along, openness)


def _brush(
    pose: _Pose, local: tuple[Field, Field], lathed: bool, lattice: Field
) -> tuple[Field | float, Field | float, Field]:
    """Return the direction of the brush strokes in the frame, [N] or one number per axis, and their streaks [N]."""
    # Straight strokes follow the part's x axis.
    x, y = local
    cosine, sine = math.cos(pose.angle), math.sin(pose.angle)
    if not lathed:
        return cosine, sine, value_noise(x * 1.5, y * 14.0, lattice)

    # Circular strokes follow the tangent, rotated from the part to the frame.
    radius = np.sqrt(x * x + y * y) + 1e-4
    flip = -1.0 if pose.mirrored else 1.0
    tangent_x, tangent_y = -y / radius, x * flip / radius
    stroke = (tangent_x * cosine - tangent_y * sine, tangent_x * sine + tangent_y * cosine)
    return stroke[0], stroke[1], value_noise(radius * 14.0, np.zeros_like(radius), lattice)


def _pool(fine: Field) -> Field:
    """Return the means [..., H, W] over SAMPLES x SAMPLES cells of the last two axes."""
    total = fine[..., ::SAMPLES, ::SAMPLES].copy()
    for row, column in list(np.ndindex(SAMPLES, SAMPLES))[1:]:
        total += fine[..., row::SAMPLES, column::SAMPLES]
    return total * np.float32(1.0 / SAMPLES**2)
