"""Cheap scores of an image: light, contrast, sharpness, and a perceptual hash for near duplicates.

The hash compares the low frequencies of a discrete cosine transform with their median, in the manner of Zauner
("Implementation and benchmarking of perceptual image hash functions", 2010). Sizes and thresholds here are ours.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

BLANK_CONTRAST = 1 / 255  # a standard deviation below one grey level shows nothing
HASH_SIDE = 32  # the image is averaged down to this size before the transform
HASH_FREQUENCIES = 8
NO_DETAIL = 1e-6  # coefficients below are rounding errors, and count as zero


@dataclass(frozen=True)
class ImageScores:
    """The first columns of IMAGE_SCORES (schemas/tables.py), and the hash."""

    brightness: float
    contrast: float
    clipped: float
    sharpness: float
    phash: int

    @property
    def is_blank(self) -> bool:
        return self.contrast < BLANK_CONTRAST


def score_image(pixels: Pixels) -> ImageScores:
    """Scores of one RGB image [height, width, 3] of at least 3 x 3 pixels."""
    luma = to_luma(pixels)
    return ImageScores(
        brightness=float(luma.mean() / 255),
        contrast=float(luma.std() / 255),
        clipped=float(((luma < 0.5) | (luma > 254.5)).mean()),
        sharpness=laplacian_variance(luma),
        phash=perceptual_hash(pixels),
    )


def to_luma(pixels: Pixels) -> Floats:
    """ITU-R BT.601 luma [height, width] in 0..255."""
    luma: Floats = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return luma


def laplacian_variance(luma: Floats) -> float:
    """Variance of the 4-neighbour Laplacian over the inner pixels; low where nothing is sharp."""
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits of one RGB image of any size: which of its low frequencies (the means left out) exceed their median."""
    luma = to_luma(pixels)
    small = _averaging(luma.shape[0]) @ luma @ _averaging(luma.shape[1]).T
    basis = _cosines()
    low = (basis @ small @ basis.T).ravel()
    low[np.abs(low) < NO_DETAIL] = 0.0
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def hamming(one: int, other: int) -> int:
    """Bits in which two hashes differ, 0..64."""
    return (one ^ other).bit_count()


@cache
def _averaging(size: int) -> Floats:
    """Matrix [HASH_SIDE, size] that averages an axis into equal parts; pixels on a border count in proportion."""
    edges = np.linspace(0, size, HASH_SIDE + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares: Floats = np.clip(overlap, 0, None) * HASH_SIDE / size
    return shares


@cache
def _cosines() -> Floats:
    """Rows 1..8 of the DCT-II matrix, [HASH_FREQUENCIES, HASH_SIDE]; row 0 is the mean, which the hash must not see."""
    frequency = np.arange(1, HASH_FREQUENCIES + 1)[:, None]
    return np.cos(np.pi * frequency * (np.arange(HASH_SIDE) + 0.5) / HASH_SIDE)
