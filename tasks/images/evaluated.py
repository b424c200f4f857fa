"""Read what an evaluation compares: real images of three splits, and versions whose classes are matched by name."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.records import Images
from tailforge.catalog.images.resizing import resize_image
from tailforge.catalog.images.splits import match_split
from tailforge.catalog.pictures import PHOTOGRAPHS, measure_shown
from tailforge.catalog.sources.references import Photograph
from tailforge.schemas.errors import ImagesError, PictureError
from tailforge.schemas.settings.fields import Fit, look
from tailforge.tasks.images.labelled import MODES, decode_pixels, take_split
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.evaluation.leakage import Fingerprints

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
MAKE_SPLITS = (
    "put the images into folders train, validation and test with one subfolder per class, or add a column split with "
    "these words to the table; keep images of one object or place in one split"
)
BY_OPTIONS = "name a size by --size HEIGHTxWIDTH, and say --fit crop, pad or stretch"


@dataclass(frozen=True)
class Format:
    """The images that a model reads: height and width in pixels, channels, and how others are brought to it."""

    size: tuple[int, int]
    channels: int
    fit: Fit


@dataclass(frozen=True)
class NamedPictures:
    """Decoded images with their places, the digests of their files and their groups."""

    kind: str
    examples: Examples
    names: tuple[str, ...]
    digests: tuple[str, ...]
    groups: tuple[str | None, ...] = ()

    def without(self, rows: Sequence[int]) -> "NamedPictures":
        """Return the images without some rows."""
        kept = np.setdiff1d(np.arange(len(self.names)), np.array(rows, np.int64))
        names, digests = (tuple(column[row] for row in kept) for column in (self.names, self.digests))
        groups = tuple(self.groups[row] for row in kept)
        return NamedPictures(self.kind, self.examples.select(kept), names, digests, groups)

    @property
    def fingerprints(self) -> Fingerprints:
        """Return what the images are recognised by."""
        return Fingerprints(self.kind, self.names, self.digests, self.examples.images, self.groups)


def open_real(
    source: str, store: str | None, root: Path | None = None, needed: Sequence[str] = SPLITS
) -> dict[str, Images]:
    """Return the labelled real images by split, by default train, validation and test. `root`: as `open_images`.

    Errors: NotFoundError; ImagesError for missing splits, an image without a label, a split without an image of a
    class, and files that are left out but could be images.
    """
    images = open_images(source, store=store, root=root)
    if images.found.splits is None:
        raise ImagesError(
            f"{images.origin} has no splits, {', '.join(needed[:-1])} and {needed[-1]} are needed; {MAKE_SPLITS}"
        )
    known = sorted({each for each in images.splits if each is not None})
    for split in needed:
        if match_split(split, known) is None:
            raise ImagesError(f"{images.origin} has no split {split}, it has: {', '.join(known)}; {MAKE_SPLITS}")

    found = {split: take_split(images, split) for split in needed}
    classes = list_classes(found)
    if len(classes) < 2:
        raise ImagesError(f"{images.origin} has the class {classes[0]} alone; give images of two classes or more")
    for split in needed[1:]:
        if missing := [name for name in classes if name not in found[split].require_labels()]:
            raise ImagesError(
                f"{found[split].origin} has no image of the class {missing[0]}; every class is measured on "
                f"{' and on '.join(needed[1:])}: put images of it there, or remove the class"
            )
    return found


def list_classes(real: Mapping[str, Images]) -> list[str]:
    """Return the names of all classes of the real images, sorted."""
    return sorted({label for images in real.values() for label in images.require_labels()})


def choose_format(
    real: Mapping[str, Images],
    size: tuple[int, int] | None,
    fit: Fit,
    bounds: tuple[int, int],
    model: str,
    advice: str = BY_OPTIONS,
) -> Format:
    """Return the format of a preset: `size` (height, width), or the one size of all training images.

    It is grey if every real image is. `bounds`: least and largest side in pixels that the network `model` is meant for.
    `advice`: how a person names a size.
    Errors: ImagesError for images of several sizes, or of a size outside the bounds.
    """
    shown = [
        _measure(data, images.sources[row]) for images in real.values() for row, data in enumerate(images.stream())
    ]
    channels = max(each[2] for each in shown)
    sizes = sorted({each[:2] for each in shown[: len(real[TRAIN])]})
    low, high = bounds
    limits = f"it reads {low} to {high} per side"
    if size is None and len(sizes) > 1:
        raise ImagesError(
            f"{real[TRAIN].origin} holds images of {len(sizes)} sizes, {model} one size, {limits}; {advice}"
        )
    height, width = size or sizes[0]
    if not low <= min(height, width) <= max(height, width) <= high:
        raise ImagesError(
            f"{model} does not read images of {height} x {width} pixels (height x width), {limits}; {advice}"
        )
    return Format((height, width), channels, fit)


def _measure(data: bytes, source: str) -> tuple[int, int, int]:
    try:
        shown = measure_shown(data, PHOTOGRAPHS)
    except PictureError as error:
        raise ImagesError(f"{source} cannot be read as an image: {error}; replace or remove it") from error
    return shown.height, shown.width, shown.channels


def read_named(kind: str, images: Images, numbers: Mapping[str, int], classes: int, wanted: Format) -> NamedPictures:
    """Return the decoded images; `numbers`: class number, of `classes`, by label. `kind`: what people call one of them.

    Errors: ImagesError for an image that is broken or, with fit exact, has another size.
    """
    pixels = decode_pixels(images, wanted.size, wanted.channels, np.arange(len(images)), wanted.fit)
    labels = np.array([numbers[label] for label in images.require_labels()], np.int64)
    digests = tuple(hashlib.sha256(data).hexdigest() for data in images.stream())
    return NamedPictures(kind, Examples(pixels, labels, classes), images.sources, digests, images.groups)


def match_classes(
    labels: Sequence[str], classes: Sequence[str], renamed: Mapping[str, str], origin: str
) -> dict[str, int]:
    """Return the number of the real class by a version's class, for every class in `labels`.

    `renamed`: real class by the version's, for names that differ. Errors: ImagesError for an unknown class.
    """
    known = {look(name): number for number, name in enumerate(classes)}
    asked = {look(own): look(real) for own, real in renamed.items()}
    found = {}
    for label in dict.fromkeys(labels):
        number = known.get(asked.get(look(label), look(label)))
        if number is None:
            raise ImagesError(
                f"{origin} shows {label!r}, which is no class of the real images: {', '.join(classes)}; name the real "
                f"class by --class '{label}=CLASS'"
            )
        found[label] = number
    return found


def read_photographs(concept: str, photographs: Sequence[Photograph], wanted: Format) -> Fingerprints:
    """Return what the reference photographs of a concept are recognised by, at the format's size."""
    fit: Fit = "stretch" if wanted.fit == "exact" else wanted.fit
    mode = MODES[wanted.channels]
    pixels = [np.asarray(resize_image(each.image.convert(mode), wanted.size, fit), np.uint8) for each in photographs]
    shape = (len(pixels), *wanted.size, wanted.channels)
    stacked: NDArray[np.uint8] = np.stack(pixels).reshape(shape) if pixels else np.empty(shape, np.uint8)
    names = [f"{concept}/{each.file.name}" for each in photographs]
    return Fingerprints("reference photograph", names, [each.sha256 for each in photographs], stacked)
