"""Compute cheap scores of an image: light, contrast, sharpness, and a perceptual hash for near duplicates.

The hash compares the low frequencies of a discrete cosine transform with their median, in the manner of Zauner
("Implementation and benchmarking of perceptual image hash functions", 2010). Sizes and thresholds are our choices.

An image is read in strips that fit the processor's cache. Luma is counted in thousandths of a grey level. Single
precision holds these exactly, so neither a strip's place nor the number of threads changes a luma or its Laplacian.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Luma = NDArray[np.float32]
Floats = NDArray[np.float64]

BLANK_CONTRAST = 1 / 255  # a standard deviation below one grey level shows nothing
HASH_SIDE = 32  # the image is averaged to this size before the transform
HASH_FREQUENCIES = 8
NO_DETAIL = 1e-6  # smaller coefficients are rounding errors, and count as zero
LUMA_WEIGHTS = np.array([299, 587, 114], np.float32)  # ITU-R BT.601
LEVEL = 1000  # luma of one grey level
WHITE = 255 * LEVEL
STRIP = 32  # rows read at once


@dataclass(frozen=True)
class PixelScores:
    """The first columns of IMAGE_SCORES (schemas/tables.py), and the hash."""

    brightness: float
    contrast: float
    clipped: float
    sharpness: float
    phash: int

    @property
    def is_blank(self) -> bool:
        """Return whether the image shows nothing: its contrast is below one grey level."""
        return self.contrast < BLANK_CONTRAST


@dataclass
class _Moments:
    """Sums over values that come in pieces."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: Luma) -> None:
        # Sums of many values need double precision.
        precise = values.astype(np.float64)
        self.count += precise.size
        self.total += float(precise.sum())
        self.squares += float(np.einsum("hw,hw->", precise, precise))

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def variance(self) -> float:
        return max(self.squares / self.count - self.mean**2, 0.0)


def score_image(pixels: Pixels) -> PixelScores:
    """Return the scores of one RGB image [height, width, 3] of at least 3 x 3 pixels."""
    # One walk over the strips gathers the sums of all scores.
    light, edges, clipped = _Moments(), _Moments(), 0
    averages = _Averages(*pixels.shape[:2])
    for start, strip, framed in _read_strips(pixels):
        light.add(strip)
        edges.add(_laplacian(framed))
        clipped += int(np.count_nonzero((strip < LEVEL / 2) | (strip > WHITE - LEVEL / 2)))
        averages.add(start, strip)

    # Scale luma to 0..1; the Laplacian stays in grey levels.
    return PixelScores(
        brightness=light.mean / WHITE,
        contrast=light.variance**0.5 / WHITE,
        clipped=clipped / light.count,
        sharpness=edges.variance / LEVEL**2,
        phash=_hash_averages(averages.finish()),
    )


def perceptual_hash(pixels: Pixels) -> int:
    """Return 64 bits of one RGB image [height, width, 3]: which of its low frequencies exceed their median."""
    averages = _Averages(*pixels.shape[:2])
    for start, strip, _ in _read_strips(pixels):
        averages.add(start, strip)
    return _hash_averages(averages.finish())


def as_stored(score: float) -> float:
    """Return a score rounded as the tables store it, so that a gate decides what the published score shows."""
    return float(np.float32(score))


def _read_strips(pixels: Pixels) -> Iterator[tuple[int, Luma, Luma]]:
    """Yield (first row, luma of a strip, luma of the strip with the rows beside it) from the top."""
    # The Laplacian needs one row above and one below.
    for start in range(0, len(pixels), STRIP):
        top = max(start - 1, 0)
        framed: Luma = pixels[top : start + STRIP + 1].astype(np.float32) @ LUMA_WEIGHTS
        yield start, framed[start - top : start - top + STRIP], framed


def _laplacian(luma: Luma) -> Luma:
    """Return the 4-neighbour Laplacian of the inner pixels [H - 2, W - 2]; its variance is low in a blurred image."""
    found: Luma = luma[1:-1, 1:-1] * np.float32(-4)
    for neighbour in (luma[:-2, 1:-1], luma[2:, 1:-1], luma[1:-1, :-2], luma[1:-1, 2:]):
        found += neighbour
    return found


class _Averages:
    """Means of luma over HASH_SIDE x HASH_SIDE equal parts of an image, gathered from its strips."""

    def __init__(self, height: int, width: int) -> None:
        self._down, self._across = _averaging(height), _averaging(width)
        self._rows = np.zeros((HASH_SIDE, width))

    def add(self, start: int, strip: Luma) -> None:
        # Only the parts that overlap the strip change.
        end = start + len(strip)
        parts = slice(start * HASH_SIDE // self._down.shape[1], -(-end * HASH_SIDE // self._down.shape[1]))
        self._rows[parts] += self._down[parts, start:end] @ strip

    def finish(self) -> Floats:
        means: Floats = self._rows @ self._across.T / LEVEL
        return means


def _hash_averages(means: Floats) -> int:
    # Zauner: low frequencies of the DCT against their median, one bit each.
    basis = _cosines()
    low = (basis @ means @ basis.T).ravel()
    low[np.abs(low) < NO_DETAIL] = 0.0
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


@cache
def _averaging(size: int) -> Floats:
    """Return the matrix [HASH_SIDE, size] that averages an axis into equal parts; border pixels count in proportion."""
    # Overlap of every part with every pixel.
    edges = np.linspace(0, size, HASH_SIDE + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares: Floats = np.clip(overlap, 0, None) * HASH_SIDE / size
    return shares


@cache
def _cosines() -> Floats:
    """Return rows 1..8 of the DCT-II matrix, [HASH_FREQUENCIES, HASH_SIDE]; the hash must not see row 0, the mean."""
    # cos(pi k (n + 1/2) / N), k from 1.
    frequency = np.arange(1, HASH_FREQUENCIES + 1)[:, None]
    return np.cos(np.pi * frequency * (np.arange(HASH_SIDE) + 0.5) / HASH_SIDE)
