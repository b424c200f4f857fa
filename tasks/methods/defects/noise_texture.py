"""Mix a foreign texture into a photograph where Perlin noise is high.

Source: Zavrtanik, Kristan and Skočaj, "DRAEM: A Discriminatively Trained Reconstruction Embedding for Surface Anomaly
Detection", ICCV 2021. There the texture is a photograph of the Describable Textures Dataset, and the noise alone makes
the mask. Here the texture is procedural, since no such photographs come with this library, and the noise is cut to the
region. Letters of shapes: H and W rows and columns.
"""

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.defects.drawn import Drawn, Mask, Pixels, check_region, composite

CELLS = (2, 4, 8, 16, 32)  # cells of the noise along each side, as in the authors' code but for the coarsest
OPACITY = (0.1, 1.0)  # beta of equation 1
SHARE = (0.5, 1.0)  # share of the region that the noise keeps; our choice
OCTAVES = 5

Values = NDArray[np.float64]


def noise_texture(source: Pixels, region: Mask, seed: int) -> Drawn:
    """Draw textured noise into the region [H, W] of a photograph [H, W, 3].

    Errors: ValueError for a photograph or region of another shape or type, or an empty region.
    """
    check_region(source, region)
    draws = np.random.default_rng(seed)
    height, width = region.shape

    # Keep the part of the region where the noise is highest.
    down, across = draws.choice(CELLS, 2)
    noise = draw_perlin(height, width, int(down), int(across), draws)
    anomaly = region & (noise >= np.quantile(noise[region], 1.0 - draws.uniform(*SHARE)))

    # Equation 1: outside the mask I, inside it (1 - beta) I + beta A.
    texture, beta = _draw_texture(height, width, draws), draws.uniform(*OPACITY)
    drawn = (1.0 - beta) * source + beta * texture
    return composite(source, drawn, anomaly)


def draw_perlin(height: int, width: int, down: int, across: int, draws: np.random.Generator) -> Values:
    """Return Perlin noise [H, W] in about [-1, 1], with so many cells down and across.

    Source: Perlin, "Improving Noise", SIGGRAPH 2002, in two dimensions with random unit gradients.
    """
    angles = draws.uniform(0.0, 2.0 * np.pi, (down + 1, across + 1))
    gradients = np.stack([np.sin(angles), np.cos(angles)])

    # Position in cells, and inside the own cell.
    y, x = (np.arange(height) + 0.5) * (down / height), (np.arange(width) + 0.5) * (across / width)
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    inner_y, inner_x = (y - row)[:, None], (x - column)[None]

    def corner(below: int, right: int) -> Values:
        # Gradient at a corner, times the way from it.
        steep_y, steep_x = gradients[:, row[:, None] + below, column[None] + right]
        way: Values = steep_y * (inner_y - below) + steep_x * (inner_x - right)
        return way

    # The fade 6 t^5 - 15 t^4 + 10 t^3 interpolates the corners. Unit gradients reach sqrt(1/2).
    fade_y, fade_x = (t**3 * (t * (t * 6.0 - 15.0) + 10.0) for t in (inner_y, inner_x))
    upper = corner(0, 0) * (1.0 - fade_x) + corner(0, 1) * fade_x
    lower = corner(1, 0) * (1.0 - fade_x) + corner(1, 1) * fade_x
    noise: Values = np.sqrt(2.0) * (upper * (1.0 - fade_y) + lower * fade_y)
    return noise


def _draw_texture(height: int, width: int, draws: np.random.Generator) -> Values:
    """Return a texture [H, W, 3] in 0 to 255: noise of several octaves between two random colours."""
    # Octaves of growing frequency and random weight, with cells as dense on both sides.
    total = np.zeros((height, width))
    for octave in range(OCTAVES):
        cells = 2 ** (octave + 1)
        total += draws.uniform(0.0, 1.0) * draw_perlin(height, width, cells, cells, draws)

    # From noise to colours.
    spread = max(float(total.std()), 1e-6)
    amount = np.clip(0.5 + 0.4 * total / spread, 0.0, 1.0)[:, :, None]
    first, second = draws.uniform(0.0, 255.0, (2, 3))
    texture: Values = first + (second - first) * amount
    return texture
