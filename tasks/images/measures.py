"""Measure photographs once each: size, perceptual hashes, a small picture, and the scores that gates bound."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.images.records import Images
from tailforge.catalog.images.resizing import resize_image
from tailforge.catalog.pictures import PHOTOGRAPHS, measure_shown, open_picture, show_rgb
from tailforge.schemas.errors import ImagesError, PictureError
from tailforge.schemas.options import Fit
from tailforge.schemas.under_way import tell
from tailforge.tasks.images.labelled import choose_rows
from tailforge.tasks.methods.quality.pixel_scores import perceptual_hash, score_image

SMALL = 32  # pixels of a small picture's sides
HASHED = 64  # pixels of the sides of the picture that is hashed
READ_AT_ONCE = 64  # photographs in memory
SCORES = ("brightness", "contrast", "clipped", "sharpness")


@dataclass(frozen=True)
class Measured:
    """One photograph. `shown`: width, height and channels. `small`: uint8 [SMALL, SMALL, 3]."""

    shown: tuple[int, int, int]
    phash: int
    mirrored: int
    small: NDArray[np.uint8]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Measures:
    """All measured photographs, in the order of their places.

    `places`: int64 [n]. `hashes`, `mirrored`: uint64 [n], hashes of the picture and of its mirror image. `small`:
    uint8 [n, SMALL, SMALL, 3]. `scores`: float64 [n] per name of SCORES. `failures`: reason per unreadable place.
    """

    places: NDArray[np.int64]
    shown: tuple[tuple[int, int, int], ...]
    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    small: NDArray[np.uint8]
    scores: dict[str, NDArray[np.float64]]
    failures: dict[int, str]

    def moved(self, position: Mapping[int, int]) -> "Measures":
        """Return the same measures at new places: `position` of each old one. Failures have none and are left out."""
        return replace(
            self, places=np.array([position[place] for place in self.places.tolist()], np.int64), failures={}
        )

    @property
    def features(self) -> NDArray[np.float32]:
        """Return a plain description per photograph, float32 [n, 16 * 16 * 3]: its colours on a grid, 0 to 1."""
        grid = self.small.reshape(len(self.small), 16, 2, 16, 2, 3).mean(axis=(2, 4))
        features: NDArray[np.float32] = (grid / 255).reshape(len(grid), -1).astype(np.float32)
        return features


def choose_measured(images: Images, most: int, seed: int) -> list[int]:
    """Return the places of at most `most` photographs, in rising order: rare classes entirely, others alike."""
    numbers = np.unique([str(label) for label in images.labels], return_inverse=True)[1]
    return [int(place) for place in choose_rows(numbers, min(most, len(images)), seed)]


def measure_images(images: Images, places: Sequence[int], size: tuple[int, int], fit: Fit) -> Measures:
    """Measure the photographs at `places`, which rise. Those that cannot be read are failures.

    `size`: (height, width) at which scores are measured, since sharpness depends on it; `fit`: as `resize_image`.
    """
    found: list[Measured] = []
    kept, failures = [], {}
    for place, each in _measure_all(images, places, size, fit):
        if isinstance(each, Measured):
            kept.append(place)
            found.append(each)
        else:
            failures[place] = each

    columns = list(zip(*(each.scores for each in found), strict=True)) or [()] * len(SCORES)
    return Measures(
        places=np.array(kept, np.int64),
        shown=tuple(each.shown for each in found),
        hashes=np.array([each.phash for each in found], np.uint64),
        mirrored=np.array([each.mirrored for each in found], np.uint64),
        small=np.array([each.small for each in found], np.uint8).reshape(-1, SMALL, SMALL, 3),
        scores={name: np.array(column, np.float64) for name, column in zip(SCORES, columns, strict=True)},
        failures=failures,
    )


def measure_sizes(images: Images, places: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return width, height and channels of the photographs at `places`, by their headers; unreadable ones left out."""
    found = []
    for place in places:
        try:
            shown = measure_shown(images.read(place), PHOTOGRAPHS)
        except (PictureError, ImagesError):
            continue
        found.append((shown.width, shown.height, shown.channels))
    return found


def _measure_all(
    images: Images, places: Sequence[int], size: tuple[int, int], fit: Fit
) -> Iterator[tuple[int, Measured | str]]:
    """Yield place and measures, or the reason of a failure. Pictures are decoded by all cores."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        for start in range(0, len(places), READ_AT_ONCE):
            some = places[start : start + READ_AT_ONCE]
            data = [_read(images, place) for place in some]
            yield from zip(some, pool.map(lambda each: _measure(each, size, fit), data), strict=True)
            tell("photograph", start + len(some), len(places))


def _read(images: Images, place: int) -> bytes | str:
    """Return the bytes of a photograph, or the reason why they cannot be read."""
    try:
        return images.read(place)
    except ImagesError as error:
        return str(error)


def _measure(data: bytes | str, size: tuple[int, int], fit: Fit) -> Measured | str:
    """Return the measures of a photograph's bytes, or the reason of a failure."""
    if isinstance(data, str):
        return data
    try:
        shown = measure_shown(data, PHOTOGRAPHS)
        image = open_picture(data, PHOTOGRAPHS, show_rgb, least_side=max(*size, HASHED))
    except PictureError as error:
        return str(error)

    # Hashes average the picture to 32 x 32 pixels; reducing it first is the same but faster.
    hashed = np.asarray(image.resize((HASHED, HASHED), Image.Resampling.BOX))
    small = np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BOX))
    scores = score_image(np.asarray(resize_image(image, size, "stretch" if fit == "exact" else fit)))
    return Measured(
        (shown.width, shown.height, shown.channels),
        perceptual_hash(hashed),
        perceptual_hash(hashed[:, ::-1]),
        small,
        tuple(getattr(scores, name) for name in SCORES),
    )
