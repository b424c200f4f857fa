"""Compute the five surfaces, each a smooth colour texture of the frame.

Coordinates x and y are [H, W] in [-1, 1], colours [3, H, W] in [0, 1]. Textures are smooth at 64 pixels, with grain
near 2/255, so a small autoencoder can reproduce them. `pixel` is the side of a pixel in frame units. A line narrower
than a pixel fades and does not flicker.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from tailforge.tasks.methods.workshop.fields import Field, draw_lattice, step, value_noise

Texture: TypeAlias = Callable[[Field, Field, float, np.random.Generator], Field]
"""Maps x, y, `pixel` and a random generator to colours [3, H, W]."""


def wooden_bench(x: Field, y: Field, pixel: float, rng: np.random.Generator) -> Field:
    """Return boards with long streaks of grain and, at times, a joint between two boards."""
    x, y = _turn(x, y, rng.uniform(-0.12, 0.12))
    joint, tone = rng.uniform(-1.6, 1.6), rng.uniform(0.90, 1.08)
    coarse, fine = draw_lattice(rng), draw_lattice(rng)

    # Each board has its own part of the noise, stretched along the board.
    sway = y + 0.05 * value_noise(x * 0.8, y * 1.5, coarse)
    shift = np.where(sway > joint, np.float32(13.0), np.float32(0.0))
    streak = value_noise(x * 0.7 + shift, sway * 5.5 + shift, fine)
    grain = value_noise(x * 1.2 + shift, sway * 12.0, coarse)

    # Mix dark and light wood, and darken the joint.
    amount = np.clip(0.52 + 0.34 * streak + 0.26 * grain, 0.0, 1.0)
    shade = tone * (1.0 - 0.40 * _line(sway - joint, 0.022, pixel))
    return _blend((0.50, 0.35, 0.20), (0.83, 0.65, 0.43), amount) * shade


def green_cutting_mat(x: Field, y: Field, pixel: float, rng: np.random.Generator) -> Field:
    """Return a green mat with a light grid."""
    # Draw the grid's angle, pitch and offset.
    x, y = _turn(x, y, rng.uniform(-0.25, 0.25))
    pitch, tone = rng.uniform(0.46, 0.58), rng.uniform(0.90, 1.10)
    offset_x, offset_y = rng.uniform(0.0, pitch), rng.uniform(0.0, pitch)

    # Lines over a mottled ground.
    mottle = value_noise(x * 2.0, y * 2.0, draw_lattice(rng))
    line_x = _line((x + offset_x) % pitch - pitch / 2, 0.024, pixel)
    line_y = _line((y + offset_y) % pitch - pitch / 2, 0.024, pixel)
    base = _blend((0.11, 0.35, 0.27), (0.14, 0.42, 0.32), 0.5 + 0.5 * mottle) * tone
    lines = np.maximum(line_x, line_y) * 0.55
    return base * (1.0 - lines) + _colour((0.50, 0.74, 0.60)) * lines


def concrete_floor(x: Field, y: Field, pixel: float, rng: np.random.Generator) -> Field:
    """Return grey concrete: clouds of two sizes and a little grit."""
    # Noise at three scales.
    tone = rng.uniform(0.92, 1.08)
    x, y = _turn(x, y, rng.uniform(0.3, 1.2))
    coarse, fine = draw_lattice(rng), draw_lattice(rng)
    cloud = value_noise(x * 1.6, y * 1.6, coarse) * 0.55 + value_noise(x * 4.1, y * 4.1, fine) * 0.45
    grit = value_noise(x * 15.0, y * 15.0, coarse)
    amount = np.clip(0.5 + 0.42 * cloud + 0.14 * grit, 0.0, 1.0)
    return _blend((0.35, 0.345, 0.335), (0.57, 0.565, 0.55), amount) * tone


def sheet_of_white_paper(x: Field, y: Field, pixel: float, rng: np.random.Generator) -> Field:
    """Return off-white paper, barely uneven."""
    # Large waves and fine fibres, both faint.
    tone, warmth = rng.uniform(0.90, 0.99), rng.uniform(-0.004, 0.020)
    uneven = value_noise(x * 1.2, y * 1.2, draw_lattice(rng))
    fibre = value_noise(x * 14.0, y * 14.0, draw_lattice(rng))
    shade = tone * (0.965 + 0.012 * uneven + 0.008 * fibre)
    return _colour((1.0 + warmth, 1.0, 0.985 - warmth)) * shade


def dark_metal_plate(x: Field, y: Field, pixel: float, rng: np.random.Generator) -> Field:
    """Return blue-grey metal with parallel grooves, each a dark line with a bright edge."""
    # Draw the grooves' angle, pitch and phase.
    x, y = _turn(x, y, rng.uniform(-0.06, 0.06))
    pitch, tone = rng.uniform(0.34, 0.44), rng.uniform(0.90, 1.10)
    phase = (x + rng.uniform(0.0, pitch)) % pitch - pitch / 2

    # Grooves over brushed metal with a slow sheen.
    brushed = value_noise(x * 14.0, y * 1.2, draw_lattice(rng))
    sheen = value_noise(x * 0.8, y * 0.8, draw_lattice(rng))
    groove, edge = _line(phase, 0.030, pixel), _line(phase - 0.034, 0.028, pixel)
    shade = tone * (1.0 + 0.03 * brushed + 0.06 * sheen) * (1.0 - 0.50 * groove) * (1.0 + 0.22 * edge)
    colours: Field = _colour((0.270, 0.285, 0.315)) * shade
    return colours


TEXTURES: Mapping[str, Texture] = {
    "wooden bench": wooden_bench,
    "green cutting mat": green_cutting_mat,
    "concrete floor": concrete_floor,
    "sheet of white paper": sheet_of_white_paper,
    "dark metal plate": dark_metal_plate,
}


def _turn(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    # Rotate the frame, in radians.
    cosine, sine = math.cos(angle), math.sin(angle)
    return x * cosine - y * sine, x * sine + y * cosine


def _line(offset: Field, width: float, pixel: float) -> Field:
    """Return the coverage [H, W] of a line at offset 0, softened over one pixel."""
    # A line is at least one pixel wide, and paler in return, so its total strength is the same at every resolution.
    drawn = max(width, pixel)
    covered = 1.0 - step(np.abs(offset), 0.5 * drawn - 0.4 * pixel, 0.5 * drawn + 0.6 * pixel)
    strength: Field = covered * (width / drawn)
    return strength


def _colour(rgb: tuple[float, float, float]) -> Field:
    return np.array(rgb, dtype=np.float32)[:, None, None]


def _blend(dark: tuple[float, float, float], light: tuple[float, float, float], amount: Field) -> Field:
    return _colour(dark) + (_colour(light) - _colour(dark)) * amount
