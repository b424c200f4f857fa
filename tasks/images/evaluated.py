"""Read what an evaluation compares: real images of three splits, versions, and reference photographs."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.records import Images
from tailforge.catalog.images.resizing import resize_image
from tailforge.catalog.images.splits import match_split
from tailforge.catalog.inspection.sizes import Sizes, choose_common_fit, choose_reading, summarise_sizes
from tailforge.catalog.pictures import PHOTOGRAPHS, measure_shown
from tailforge.catalog.sources.references import Photograph
from tailforge.schemas.errors import ImagesError, PictureError
from tailforge.schemas.options import Fit
from tailforge.tasks.images.labelled import MODES, decode_pixels
from tailforge.tasks.images.targets import Format, TargetReader
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
    """Return the real images by split, by default train, validation and test. `root`: as `open_images`.

    Errors: NotFoundError; ImagesError for missing splits, and for files that are left out but could be images.
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

    images.left_out.refuse()
    return {split: images.of_split(split) for split in needed}


def open_further(source: str, store: str, root: Path | None) -> Images:
    """Return further real images for training. Errors: NotFoundError; ImagesError for files that could be images."""
    images = open_images(source, store=store, root=root)
    images.left_out.refuse()
    return images.of_split(TRAIN)


def require_classes(shown: Mapping[str, Collection[str]], classes: Sequence[str], origin: str) -> None:
    """Check that there are classes to tell apart, and that each measured split shows all of them.

    `shown`: the classes that a split shows. Errors: ImagesError.
    """
    if len(classes) < 2:
        raise ImagesError(f"{origin} has the class {classes[0]} alone; give images of two classes or more")
    for split, own in shown.items():
        if missing := [name for name in classes if name not in own]:
            raise ImagesError(
                f"{origin} ({split}) has no image of the class {missing[0]}; every class is measured on "
                f"{' and on '.join(shown)}: put images of it there, or remove the class"
            )


def choose_format(
    real: Mapping[str, Images],
    size: tuple[int, int] | None,
    fit: Fit | None,
    bounds: tuple[int, int],
    model: str,
    advice: str = BY_OPTIONS,
    drawn: Sizes | None = None,
) -> Format:
    """Return the format of a preset: `size` (height, width), or the one size of all training images.

    It is grey if every real image is. `bounds`: least and largest side in pixels that the network `model` is meant for.
    `advice`: how a person names a size. `drawn`: sizes of drawn images, by which `choose_reading` chooses a size or fit
    that is None.
    Errors: ImagesError for images of several sizes without `drawn`, or of a size outside the bounds.
    """
    shown = [
        _measure(data, images.sources[row]) for images in real.values() for row, data in enumerate(images.stream())
    ]
    channels = max(each[2] for each in shown)
    train = shown[: len(real[TRAIN])]
    sizes = sorted({each[:2] for each in train})
    low, high = bounds
    if drawn is not None:
        size, fit = _choose_shape(train, size, fit, bounds, drawn)
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
    return Format((height, width), channels, fit or "exact")


def _choose_shape(
    shown: Sequence[tuple[int, int, int]],
    size: tuple[int, int] | None,
    fit: Fit | None,
    bounds: tuple[int, int],
    drawn: Sizes,
) -> tuple[tuple[int, int], Fit]:
    """Return size (height, width) and fit, chosen where they are None. `shown`: height, width and channels."""
    own = summarise_sizes([(width, height, channels) for height, width, channels in shown])
    if size is not None:
        return size, fit or choose_common_fit(own, drawn, size[::-1])
    (width, height), chosen = choose_reading(own, drawn, bounds)
    return (height, width), fit or chosen


def _measure(data: bytes, source: str) -> tuple[int, int, int]:
    try:
        shown = measure_shown(data, PHOTOGRAPHS)
    except PictureError as error:
        raise ImagesError(f"{source} cannot be read as an image: {error}; replace or remove it") from error
    return shown.height, shown.width, shown.channels


def read_named(
    kind: str,
    images: Images,
    classes: Sequence[str],
    reader: TargetReader,
    wanted: Format,
    renamed: Mapping[str, str] | None = None,
) -> NamedPictures:
    """Return the decoded images. `kind`: what people call one of them; `renamed`: as `TargetReader.read`.

    Errors: ImagesError for an image that is broken or, with fit exact, has another size; those of the reader.
    """
    pixels = decode_pixels(images, wanted.size, wanted.channels, np.arange(len(images)), wanted.fit)
    targets = reader.read(images, classes, renamed, wanted)
    digests = tuple(hashlib.sha256(data).hexdigest() for data in images.stream())
    names = tuple(_name_within(images.origin, source) for source in images.sources)
    return NamedPictures(kind, Examples(pixels, targets, len(classes)), names, digests, images.groups)


def _name_within(origin: str, source: str) -> str:
    """Return the name of an image within its folder, or its row with its file's name: equal wherever they are."""
    folder = origin.rstrip("/")
    starts = [f"{folder}/", f"{folder.rpartition('/')[0]}/"]
    return next((source.removeprefix(start) for start in starts if len(start) > 1 and source.startswith(start)), source)


def read_photographs(concept: str, photographs: Sequence[Photograph], wanted: Format) -> Fingerprints:
    """Return what the reference photographs of a concept are recognised by, at the format's size."""
    fit: Fit = "stretch" if wanted.fit == "exact" else wanted.fit
    mode = MODES[wanted.channels]
    pixels = [np.asarray(resize_image(each.image.convert(mode), wanted.size, fit), np.uint8) for each in photographs]
    shape = (len(pixels), *wanted.size, wanted.channels)
    stacked: NDArray[np.uint8] = np.stack(pixels).reshape(shape) if pixels else np.empty(shape, np.uint8)
    names = [f"{concept}/{each.file.name}" for each in photographs]
    return Fingerprints("reference photograph", names, [each.sha256 for each in photographs], stacked)
