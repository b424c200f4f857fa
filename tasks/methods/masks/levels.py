"""Scale soft maps to 0..1, and split their levels in two by Otsu's method (1979)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Soft = NDArray[np.floating[Any]]


def scale_map(soft: Soft) -> NDArray[np.float32]:
    """Scale a map [h, w] to 0..1; a flat map becomes zero."""
    low, high = float(soft.min()), float(soft.max())
    return ((soft - low) / (high - low) if high > low else np.zeros_like(soft)).astype(np.float32)


def count_levels(soft: Soft, bins: int = 256) -> NDArray[np.int64]:
    """Count the values of a map [h, w] in each of `bins` equal parts of 0..1: [bins]."""
    counts: NDArray[np.int64] = np.histogram(soft, bins=bins, range=(0.0, 1.0))[0]
    return counts


def split_levels(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return (threshold, between-class over total variance) of a histogram [bins] of values in 0..1 (Otsu 1979).

    Values at or above the threshold are the upper class. A flat map gives (0.5, 0).
    """
    # Mean and total variance of the histogram.
    edges = np.linspace(0, 1, len(counts) + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    mean = float(counts @ centres) / counts.sum()
    total = float(counts @ (centres - mean) ** 2) / counts.sum()
    if total == 0:
        return 0.5, 0.0

    # Between-class variance of every cut, from cumulative sums.
    below = np.cumsum(counts)[:-1] / counts.sum()
    moment = np.cumsum(counts * centres)[:-1] / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((mean * below - moment) ** 2 / (below * (1 - below)), posinf=0.0)

    # Empty bins between the classes give a plateau: cut in its middle.
    plateau = below == below[between.argmax()]
    return float(edges[1:-1][plateau].mean()), float(min(between.max() / total, 1.0))
