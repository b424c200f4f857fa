"""Compare pictures by the correlation of their luma, for near copies that a perceptual hash proposes.

Both bounds are our choices: at a correlation of 0.98 two photographs of one class differ, and a photograph and its
recompressed copy do not.
"""

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.quality.pixel_scores import LUMA_WEIGHTS

LEAST_CORRELATION = 0.98
FLAT = 1.0  # grey levels; a picture of a smaller standard deviation shows nothing to compare

Floats = NDArray[np.float32]


def read_luma(pixels: NDArray[np.uint8]) -> Floats:
    """Return the luma of RGB pictures [N, H, W, 3] in grey levels, [N, H, W]."""
    # ITU-R BT.601, as all scores.
    luma: Floats = pixels.astype(np.float32) @ (LUMA_WEIGHTS / LUMA_WEIGHTS.sum())
    return luma


def standardise(luma: Floats) -> Floats:
    """Return luma [N, H, W] with mean 0 and norm 1, whose products are correlations; zeros for a flat picture."""
    # Pearson: centre, then scale to norm 1.
    centred = luma - luma.mean(axis=(1, 2), keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True))

    # The noise of a flat picture would correlate with anything.
    flat = norms < FLAT * np.sqrt(luma[0].size if len(luma) else 1)
    return np.where(flat, 0, centred / np.maximum(norms, 1e-6)).astype(np.float32)
