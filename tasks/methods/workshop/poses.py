"""Place parts in the frame, and compute the light on their surfaces.

Frame coordinates run from -1 to 1 on both axes. N is the number of lit samples.
"""

import math
from dataclasses import dataclass

import numpy as np

from tailforge.tasks.methods.workshop.fields import Field, value_noise
from tailforge.tasks.methods.workshop.materials import Lighting
from tailforge.tasks.methods.workshop.parts import LONG


@dataclass(frozen=True)
class Pose:
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


def draw_pose(part: str, rng: np.random.Generator) -> Pose:
    """Return the pose of a part alone. It stays about inside the frame."""
    scale = rng.uniform(0.72, 0.86) if part in LONG else rng.uniform(0.56, 0.84)
    room = max(0.95 - scale, 0.08)
    light = _draw_light(rng)
    return Pose(
        centre=(rng.uniform(-room, room), rng.uniform(-room, room)),
        angle=rng.uniform(-math.pi, math.pi),
        scale=scale,
        mirrored=bool(rng.random() < 0.5),
        light=light,
    )


def draw_pair_poses(rng: np.random.Generator) -> tuple[Pose, Pose]:
    """Return the poses of a left and a right part under one light. Each stays in its half of the frame."""
    light = _draw_light(rng)

    def draw(side: float) -> Pose:
        # Half the frame is 1 wide, so a radius of 0.46 leaves a gap.
        return Pose(
            centre=(side * rng.uniform(0.48, 0.50), rng.uniform(-0.45, 0.45)),
            angle=rng.uniform(-math.pi, math.pi),
            scale=rng.uniform(0.41, 0.46),
            mirrored=bool(rng.random() < 0.5),
            light=light,
        )

    return draw(-1.0), draw(1.0)


def _draw_light(rng: np.random.Generator) -> tuple[float, float, float]:
    # The light comes from above, 37 to 54 degrees high.
    azimuth, elevation = rng.uniform(-0.85, -0.15) * math.pi, rng.uniform(0.65, 0.95)
    flat = math.cos(elevation)
    return flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)


def light_up(
    pose: Pose,
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
    pose: Pose, local: tuple[Field, Field], lathed: bool, lattice: Field
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
