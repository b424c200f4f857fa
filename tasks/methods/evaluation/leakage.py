"""Find test images that a model has seen: copies, mirrored or recompressed twins, and images of one group.

A perceptual hash proposes pairs, and the correlation of the pixels decides (tasks/methods/quality/likeness.py).

Letters of shapes: N images, H and W rows and columns, C channels.
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
            for row, place, value in zip(block, likeness.argmax(1), likeness.max(1), strict=True):
                if value >= LEAST_CORRELATION:
                    yield int(row), how, int(place)
