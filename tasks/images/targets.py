"""Read what the images of an evaluation show: one class per image, or one class per pixel.

Letters of shapes: N images, H and W rows and columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.records import Images, Record
from tailforge.catalog.images.resizing import place_inside, resize_mask
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.options import Fit
from tailforge.schemas.settings.fields import look
from tailforge.tasks.methods.evaluation.examples import IGNORED, Targets

BACKGROUND = "background"
GIVE_MASKS = (
    "give folders images and masks with files of equal names, a table with a column mask, a folder whose "
    "metadata.jsonl names masks, or COCO with regions"
)


@dataclass(frozen=True)
class Format:
    """The images that a model reads: height and width in pixels, channels, and how others are brought to it."""

    size: tuple[int, int]
    channels: int
    fit: Fit


class TargetReader(Protocol):
    """How a task reads what images show."""

    def name_classes(self, real: Mapping[str, Images]) -> tuple[str, ...]:
        """Return the names of the classes of the real images. Errors: ImagesError."""

    def keep(self, images: Images, classes: Sequence[str]) -> Images:
        """Return the images that may show one of some classes. Errors: ImagesError."""

    def read(
        self, images: Images, classes: Sequence[str], renamed: Mapping[str, str] | None, wanted: Format
    ) -> Targets:
        """Return numbers of `classes`: int64 [N], or masks uint8 [N, H, W]. Errors: ImagesError.

        `renamed`: of a version, one of `classes` by the version's name, where names differ; None for real images.
        """


@dataclass(frozen=True)
class LabelReader:
    """One class per image: its label."""

    def name_classes(self, real: Mapping[str, Images]) -> tuple[str, ...]:
        """Return the labels, sorted. Errors: ImagesError for an image without a label."""
        return tuple(sorted({label for images in real.values() for label in images.require_labels()}))

    def keep(self, images: Images, classes: Sequence[str]) -> Images:
        """Return the images with one of some labels. Errors: ImagesError for an image without a label."""
        wanted = {look(name) for name in classes}
        return images.select([place for place, label in enumerate(images.require_labels()) if look(label) in wanted])

    def read(
        self, images: Images, classes: Sequence[str], renamed: Mapping[str, str] | None, wanted: Format
    ) -> Targets:
        """Return the class number per image, int64 [N]. Errors: ImagesError for an unknown class."""
        labels = images.require_labels()
        numbers = match_classes(labels, classes, renamed or {}, images.origin)
        return np.array([numbers[label] for label in labels], np.int64)


@dataclass(frozen=True)
class MaskReader:
    """One class per pixel: the values of masks, with 0 for the background.

    `names`: of the values of real masks, value 1 first; empty if the images name them, or if nobody does.
    `ignore_unmasked`: whether pixels of a version that no category masks are ignored, and not background.
    """

    names: tuple[str, ...] = ()
    ignore_unmasked: bool = False

    def name_classes(self, real: Mapping[str, Images]) -> tuple[str, ...]:
        """Return the background, then the names of the values; values without names are called by their digits.

        Errors: ImagesError for an image without a mask, masks of one value, and two sources of names.
        """
        images = next(iter(real.values()))
        told = tuple(category.name for category in images.found.categories)
        if told and self.names:
            raise ImagesError(
                f"{images.origin} names the values of its masks itself: {', '.join(told)}; leave --mask-classes out"
            )
        names = self.names or told or _count_values(real)
        if not names:
            raise ImagesError(f"the masks of {images.origin} hold the value 0 alone; give masks of one class or more")
        if BACKGROUND in map(look, names):
            raise ImagesError(f"a value of the masks is named {BACKGROUND}, as value 0 is; give it another name")
        return (BACKGROUND, *names)

    def keep(self, images: Images, classes: Sequence[str]) -> Images:
        """Return all images: their masks are not read yet."""
        return images

    def read(
        self, images: Images, classes: Sequence[str], renamed: Mapping[str, str] | None, wanted: Format
    ) -> Targets:
        """Return the masks with numbers of `classes`, uint8 [N, H, W]; pixels around a padded image are ignored.

        Errors: ImagesError for an image without a mask, a mask of another size, a value without a name, and a class of
        a version that is unknown.
        """
        numbers = self._number_values(images, classes, renamed)
        masks = np.empty((len(images), *wanted.size), np.uint8)
        for place, record in enumerate(images):
            mask = _read_mask(record)
            found = numbers[mask]
            if (found < 0).any():
                raise ImagesError(
                    f"the mask of {record.source} holds the value {int(mask[found < 0][0])}, which has no name; the "
                    f"classes are: {', '.join(classes)}; name all values, value 1 first, by --mask-classes"
                )
            masks[place] = _bring_to_size(found.astype(np.uint8), record, wanted)
        return masks

    def _number_values(
        self, images: Images, classes: Sequence[str], renamed: Mapping[str, str] | None
    ) -> NDArray[np.int16]:
        """Return the class number per value of a mask [256]; -1 for a value without a name. Errors: ImagesError."""
        numbers = np.full(IGNORED + 1, -1, np.int16)
        numbers[0], numbers[IGNORED] = 0, IGNORED
        if renamed is None:
            numbers[1 : len(classes)] = np.arange(1, len(classes))
            return numbers

        # Classes of a version must be known. What else it masks, such as a material, is as if it were not masked.
        match_classes(images.require_labels(), classes[1:], renamed, images.origin)
        known = _index_classes(classes[1:], renamed)
        numbers[0] = unmasked = IGNORED if self.ignore_unmasked else 0
        for value, category in enumerate(images.found.categories, 1):
            found = known.get(look(category.name))
            numbers[value] = unmasked if found is None else found + 1
        return numbers


def match_classes(
    labels: Sequence[str], classes: Sequence[str], renamed: Mapping[str, str], origin: str
) -> dict[str, int]:
    """Return the number of the real class by a version's class, for every class in `labels`.

    `renamed`: real class by the version's, for names that differ. Errors: ImagesError for an unknown class.
    """
    known, found = _index_classes(classes, renamed), {}
    for label in dict.fromkeys(labels):
        number = known.get(look(label))
        if number is None:
            raise ImagesError(
                f"{origin} shows {label!r}, which is no class of the real images: {', '.join(classes)}; name the real "
                f"class by --class '{label}=CLASS'"
            )
        found[label] = number
    return found


def _index_classes(classes: Sequence[str], renamed: Mapping[str, str]) -> dict[str, int | None]:
    """Return the number of a class by the looks of its names; None for a name that is given to no class."""
    known: dict[str, int | None] = {look(name): number for number, name in enumerate(classes)}
    return known | {look(own): known.get(look(real)) for own, real in renamed.items()}


def _count_values(real: Mapping[str, Images]) -> tuple[str, ...]:
    """Return the digits 1 to the largest value of all masks. Errors: ImagesError."""
    largest = 0
    for images in real.values():
        for record in images:
            mask = _read_mask(record)
            largest = max(largest, int(np.where(mask == IGNORED, 0, mask).max(initial=0)))
    return tuple(str(value) for value in range(1, largest + 1))


def _read_mask(record: Record) -> NDArray[np.uint8]:
    """Return the values of an image's mask [H, W]; 0 for a COCO image without objects. Errors: ImagesError."""
    mask = record.read_mask()
    if mask is not None:
        return mask
    if record.is_empty:
        return np.zeros((record.shown.height, record.shown.width), np.uint8)
    raise ImagesError(f"{record.source} has no mask, which segmentation needs; {GIVE_MASKS}")


def _bring_to_size(mask: NDArray[np.uint8], record: Record, wanted: Format) -> NDArray[np.uint8]:
    """Return a mask [H, W] at the size of a format. Errors: ImagesError for a size that is not the image's."""
    shown = record.shown
    if mask.shape != (shown.height, shown.width):
        raise ImagesError(
            f"the mask of {record.source} is {mask.shape[1]} x {mask.shape[0]} pixels (width x height), its image "
            f"{shown.width} x {shown.height}; save the mask at the image's size"
        )
    resized = resize_mask(mask, wanted.size, wanted.fit)
    if wanted.fit != "pad":
        return resized

    # Black borders are no background.
    top, left, height, width = place_inside(mask.shape, wanted.size)
    padded = np.full_like(resized, IGNORED)
    inside = np.s_[top : top + height, left : left + width]
    padded[inside] = resized[inside]
    return padded
