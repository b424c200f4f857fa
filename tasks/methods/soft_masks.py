"""From a soft attention map to a mask, with scores that say how far to trust it (Free-ATM, arXiv 2308.06739).

The paper says that thresholded cross-attention gives masks; every choice here is ours. Order: map to image size,
raw scores, scale to 0..1, threshold, ignore band, components.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from schemas.quality import Annotation
from tasks.methods.masks import IGNORE, Mask

Soft = NDArray[np.floating[Any]]

OTSU_RANGE = (0.3, 0.6)  # a word that fills the image, or hardly shows, drags Otsu's threshold out of this range
ABSENT = 1.0  # raw peak over raw mean of a flat map: the word is nowhere


@dataclass(frozen=True)
class Scores:
    """What the annotation measured; names as in tables.MASK_SCORES without the prefix."""

    area: float = 0.0
    confidence: float = 0.0
    contrast: float = 0.0
    presence: float = 0.0
    components: int = 0


@dataclass(frozen=True)
class SoftMask:
    """mask [height, width]: 0, the category, or 255 (ignore)."""

    mask: Mask
    scores: Scores


def mask_from_attention(
    maps: Soft, word: int, category: int, height: int, width: int, settings: Annotation
) -> SoftMask:
    """Mask of one word from the maps [K, h, w] of all words of the prompt; all zero where nothing was found."""
    raw = resize_map(maps[word], height, width)
    presence = float(raw.max() / raw.mean()) if raw.mean() > 0 else 0.0
    soft = scale_map(raw)
    empty = SoftMask(np.zeros((height, width), np.uint8), Scores(presence=presence))
    if presence <= ABSENT or not soft.any():
        return empty
    threshold, separability = find_threshold(soft, settings.threshold)
    region, pieces = keep_components(soft >= threshold, settings.min_component)
    if not region.any() or region.all():
        return empty
    mask = np.where(region, category, 0).astype(np.uint8)
    mask[(soft >= threshold - settings.ignore_band) & (soft < threshold) & ~region] = IGNORE
    contrast = float(soft[region].mean() - soft[~region].mean())
    confidence = combine_confidence(contrast, separability, presence, pieces)
    return SoftMask(mask, Scores(float(region.mean()), confidence, contrast, presence, len(pieces)))


def resize_map(soft: Soft, height: int, width: int) -> NDArray[np.float32]:
    """Bilinear, so that the threshold, taken afterwards, cuts a smooth edge."""
    image = Image.fromarray(soft.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)


def scale_map(soft: Soft) -> NDArray[np.float32]:
    """Scaled to 0..1; all zero where the map is flat."""
    low, high = float(soft.min()), float(soft.max())
    return ((soft - low) / (high - low) if high > low else np.zeros_like(soft)).astype(np.float32)


def find_threshold(soft: Soft, rule: Literal["otsu"] | float) -> tuple[float, float]:
    """(threshold, separability) of a map scaled to 0..1; Otsu's is kept inside `OTSU_RANGE`."""
    otsu, separability = otsu_threshold(soft)
    return (float(np.clip(otsu, *OTSU_RANGE)) if rule == "otsu" else rule), separability


def otsu_threshold(soft: Soft, bins: int = 256) -> tuple[float, float]:
    """(threshold, between-class over total variance) of values in 0..1 (Otsu 1979).

    Values at or above the threshold are the upper class. A flat map gives (0.5, 0).
    """
    counts, edges = np.histogram(soft, bins=bins, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    mean = float(counts @ centres) / counts.sum()
    total = float(counts @ (centres - mean) ** 2) / counts.sum()
    if total == 0:
        return 0.5, 0.0
    below = np.cumsum(counts)[:-1] / counts.sum()
    moment = np.cumsum(counts * centres)[:-1] / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((mean * below - moment) ** 2 / (below * (1 - below)), posinf=0.0)
    plateau = below == below[between.argmax()]  # empty bins between the classes: cut in their middle
    return float(edges[1:-1][plateau].mean()), float(min(between.max() / total, 1.0))


def keep_components(region: NDArray[np.bool_], min_share: float) -> tuple[NDArray[np.bool_], list[int]]:
    """The region without 8-connected components under `min_share` of the largest, and the kept ones' areas."""
    labels, count = ndimage.label(region, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    if count == 0:
        return region, []
    kept = np.flatnonzero(areas >= min_share * areas.max()) + 1
    return np.isin(labels, kept), [int(areas[label - 1]) for label in kept]


def combine_confidence(contrast: float, separability: float, presence: float, areas: list[int]) -> float:
    """0..1: geometric mean of four parts, so that one bad part is enough to doubt a mask.

    Presence counts fully from a peak of twice the mean; the share of the largest component speaks against scatter.
    """
    parts = (contrast, separability, min(presence - ABSENT, 1.0), max(areas) / sum(areas))
    return float(np.prod(np.clip(parts, 0, 1)) ** (1 / len(parts)))
