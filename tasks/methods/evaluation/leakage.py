"""Find test images that a model has seen: copies, mirrored or recompressed twins, and images of one group.

A perceptual hash proposes pairs, and the correlation of the pixels decides (tasks/methods/quality/likeness.py). The
least correlation depends on the nearest other images, so that smooth photographs of one kind are no twins.

Letters of shapes: N images, M known images, H and W rows and columns, C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.quality.likeness import LEAST_CORRELATION, read_luma, standardise
from tailforge.tasks.methods.quality.near_duplicates import find_near
from tailforge.tasks.methods.quality.pixel_scores import perceptual_hash

MOST_BITS = 16  # in which the hashes of a proposed pair differ; our choice: a leak costs more than a lost test image
CERTAIN_CORRELATION = 0.995  # a pair of this correlation is a twin, however near other images are
# Our choices, from photographs whose twins are known: docs/how-to/evaluate.md has the figures.
NEIGHBOUR = 5  # the known image that a twin's distance is compared with: a series of four copies hides no twin
NEARER = 1 / 3  # largest distance of a twin, as a share of the distance of that image
BLOCK = 256  # images compared at once with all others: bounds memory

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Fingerprints:
    """What images are recognised by.

    `kind`: what the images are, for people. `digests`: sha256 of the files. `pixels`: uint8 [N, H, W, C] of one size,
    or None if only digests are known. `groups`: as the source names them.
    """

    kind: str
    names: Sequence[str]
    digests: Sequence[str]
    pixels: Pixels | None = None
    groups: Sequence[str | None] = field(default_factory=tuple)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """Return the perceptual hash per image [N]."""
        return hash_images(self.pixels)

    @cached_property
    def profiles(self) -> Floats:
        """Return the standardised luma per image [N, H * W], whose products are correlations."""
        return profile(self.pixels)


@dataclass(frozen=True)
class Leak:
    """A test image that a model has seen. `image`: its row; `how`: copy, near twin, mirrored twin or same group."""

    image: int
    name: str
    how: str
    kind: str
    other: str

    def describe(self) -> str:
        """Return one line for people."""
        return f"{self.name}: {self.how} of the {self.kind} {self.other}"


def find_leaks(test: Fingerprints, known: Sequence[Fingerprints]) -> list[Leak]:
    """Return one leak per test image that is also among the `known` images, in the order of the test images."""
    # Kinds of known images in their order, so that a training image is named before a synthetic one.
    found: dict[int, Leak] = {}
    for each in known:
        # The first reason stays: a copy before a group, a group before a near twin.
        for row, how, place in (*_find_copies(test, each), *_find_groups(test, each), *_find_twins(test, each)):
            found.setdefault(row, Leak(row, test.names[row], how, each.kind, each.names[place]))
    return [found[row] for row in sorted(found)]


def hash_images(pixels: Pixels | None) -> NDArray[np.uint64]:
    """Return the perceptual hash [N] of images [N, H, W, C]; none without pixels."""
    # The hash reads three channels.
    images: Sequence[Pixels] = [] if pixels is None else list(pixels)
    return np.array([perceptual_hash(_show_rgb(image)) for image in images], np.uint64)


def profile(pixels: Pixels | None) -> Floats:
    """Return the standardised luma of images [N, H, W, C], [N, H * W]; zeros for a flat image."""
    if pixels is None or not len(pixels):
        return np.zeros((0, 1), np.float32)
    # One image at a time, since float colours of all would need much memory.
    luma = np.concatenate([read_luma(_show_rgb(image)[None]) for image in pixels])
    return standardise(luma).reshape(len(luma), -1)


def _show_rgb(image: Pixels) -> Pixels:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _find_copies(test: Fingerprints, known: Fingerprints) -> Iterator[tuple[int, str, int]]:
    # Equal bytes, whatever the pixels.
    places = {digest: place for place, digest in enumerate(known.digests)}
    for row, digest in enumerate(test.digests):
        if digest in places:
            yield row, "copy", places[digest]


def _find_groups(test: Fingerprints, known: Fingerprints) -> Iterator[tuple[int, str, int]]:
    # One object or place, which the source names.
    places = {group: place for place, group in enumerate(known.groups) if group is not None}
    for row, group in enumerate(test.groups):
        if group in places:
            yield row, "same group", places[group]


def _find_twins(test: Fingerprints, known: Fingerprints) -> Iterator[tuple[int, str, int]]:
    """Yield row, kind and known image of near twins, upright ones first."""
    if test.pixels is None or known.pixels is None or not len(known.pixels):
        return
    for how, axes in (("near twin", ()), ("mirrored twin", (2,)), ("mirrored twin", (1,)), ("mirrored twin", (1, 2))):
        # Hashes propose, correlations decide.
        turned = np.flip(test.pixels, axes) if axes else test.pixels
        hashes = test.hashes if not axes else hash_images(turned)
        rows = np.flatnonzero(find_near(hashes, known.hashes, MOST_BITS))

        # The likeliest known image of each proposed one.
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            likeness = profile(turned[block]) @ known.profiles.T
            best, bounds = likeness.argmax(1), bound_likeness(likeness)
            for row, place, value, bound in zip(block, best, likeness.max(1), bounds, strict=True):
                if value >= bound:
                    yield int(row), how, int(place)


def bound_likeness(likeness: Floats) -> Floats:
    """Return the least correlation of a twin [N], from the correlations [N, M] of N images with M known ones.

    Smooth photographs of one kind correlate without being twins. A twin is much nearer than the other known images:
    its distance, 1 minus the correlation, is at most a third of that of the fifth nearest known image.
    """
    # Few known images say nothing about distances.
    if likeness.shape[1] < NEIGHBOUR:
        return np.full(len(likeness), LEAST_CORRELATION, np.float32)
    other = np.partition(likeness, -NEIGHBOUR, axis=1)[:, -NEIGHBOUR]

    # Between both bounds the image decides; beyond them nothing else does.
    bounds: Floats = np.clip(1 - NEARER * (1 - other), LEAST_CORRELATION, CERTAIN_CORRELATION)
    return bounds
