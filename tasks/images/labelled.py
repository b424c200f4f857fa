"""Labelled images as arrays: opened by split, chosen at random, decoded to one size, with class numbers."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.records import Images, decode_picture
from tailforge.catalog.images.resizing import resize_image
from tailforge.catalog.pictures import show_picture
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.options import Fit
from tailforge.tasks.methods.classifiers.pictures import Pictures

MODES = {1: "L", 3: "RGB"}
LabelOf = Callable[[str], int]


def open_labelled(
    source: str | Path, split: str, store: str | None = None, learnt: str = "", root: Path | None = None
) -> Images:
    """Open the labelled images of a split: a source as `open_images` takes it, or dataset@version of `store`.

    `root`: as `open_images`. A source without splits is taken as a whole. If a version has no test split, a test uses
    all other splits except the training split (`learnt`: its origin).
    Errors: NotFoundError; ImagesError for an image without a label, and for files that are left out but could be
    images, so that no image is skipped silently.
    """
    images = open_images(source, store=store, root=root, check_classes=False)
    return take_split(images, split, learnt)


def take_split(images: Images, split: str, learnt: str = "") -> Images:
    """Return the labelled images of a split, as `open_labelled`, with the same errors."""
    images.left_out.refuse()
    chosen = _without(images, learnt) if _lacks_test(images, split) else images.of_split(split)
    chosen.require_labels()
    return chosen


def _lacks_test(images: Images, split: str) -> bool:
    return images.found.kind == "version" and split == "test" and split not in images.splits


def _without(images: Images, learnt: str) -> Images:
    """Return the images of a version without those of the split with origin `learnt`; all if no other is left."""
    origins = images.found.split_origins
    rest = [name for name in origins if origins[name] != learnt] or list(origins)
    label = images.origin.partition(" (")[0]
    places = [place for place, name in enumerate(images.splits) if name in rest]
    return images.select(places, f"{label} ({', '.join(rest)})")


def decode_images(
    images: Images,
    label_of: LabelOf,
    size: tuple[int, int],
    channels: int,
    rows: NDArray[np.int64],
    fit: Fit = "exact",
) -> Pictures:
    """Return pixels and class numbers of the given rows, as `decode_pixels`.

    Errors: ImagesError, and those of `label_of`.
    """
    labels = label_rows(images, label_of)[rows]
    return Pictures(decode_pixels(images, size, channels, rows, fit), labels)


def decode_pixels(
    images: Images, size: tuple[int, int], channels: int, rows: NDArray[np.int64], fit: Fit = "exact"
) -> NDArray[np.uint8]:
    """Return pixels [rows, height, width, channels] of the given rows.

    `size` is (height, width), `channels` 1 (grey) or 3. `fit`: as `resize_image`.
    Errors: ImagesError naming an image that is broken or, with `fit` exact, has another size.
    """
    pixels = np.empty((len(rows), *size, channels), np.uint8)
    for place, (row, data) in enumerate(zip(rows, images.stream(rows), strict=True)):
        pixels[place] = _decode(data, images.sources[row], size, channels, fit)
    return pixels


def label_rows(images: Images, label_of: LabelOf) -> NDArray[np.int64]:
    """Return the class number per row. Errors: ImagesError for a row without a label, and those of `label_of`."""
    labels = images.require_labels()
    numbers = {label: label_of(label) for label in dict.fromkeys(labels)}
    return np.array([numbers[label] for label in labels], np.int64)


def choose_rows(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return a random choice of `count` rows, with equal numbers per class where possible."""
    lot = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), np.int64)  # rows of the same class before this one
    for label in np.unique(labels):
        own = lot[labels[lot] == label]
        rank[own] = np.arange(len(own))
    order = np.lexsort((np.argsort(lot), rank))
    return np.sort(order[:count])


def refuse_shared(training: Pictures, test: Pictures, learnt: str, measured: str) -> None:
    """Check that no test image equals a training image, pixel by pixel. All have the same size. Errors: ImagesError."""
    known = {hashlib.sha256(image.tobytes()).digest() for image in training.images}
    if shared := sum(hashlib.sha256(image.tobytes()).digest() in known for image in test.images):
        raise ImagesError(
            f"{shared} of the {len(test)} test images of {measured} are among the training images of {learnt}; "
            "accuracy on them has no meaning: leave them out, or name other images by --test"
        )


def _decode(data: bytes, source: str, size: tuple[int, int], channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Return the pixels of one image [height, width, channels]. Errors: ImagesError."""

    def bring_to_size(image: Image.Image) -> Image.Image:
        """Return the image with the requested channels at the requested size."""
        return resize_image(show_picture(image).convert(MODES[channels]), size, fit)

    pixels = np.asarray(decode_picture(data, source, bring_to_size), np.uint8)
    if pixels.shape[:2] != size:
        raise ImagesError(
            f"{source} is {pixels.shape[1]} x {pixels.shape[0]} pixels (width x height), the classifier "
            f"reads {size[1]} x {size[0]}; give images of that size, or say fit crop, pad or stretch"
        )
    return pixels.reshape(*size, channels)
