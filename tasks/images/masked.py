"""Images with regions: the masks of their source, none, random boxes or the user's masks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tailforge.catalog.images.files import require_inside
from tailforge.catalog.images.left_out import LeftOut
from tailforge.catalog.images.records import Images, Record, decode_picture
from tailforge.catalog.pictures import SUFFIXES, show_rgb
from tailforge.catalog.reading.tables import LOOK
from tailforge.schemas.documents.shown import count_of, describe_failure
from tailforge.schemas.errors import ImagesError, NotFoundError, PictureError, VerificationError
from tailforge.schemas.settings.annotation import Category
from tailforge.tasks.images.class_captions import DEFAULT, caption_by_class
from tailforge.tasks.images.labelled import choose_rows
from tailforge.tasks.methods.masks.codec import IGNORE, Mask, decode_mask
from tailforge.tasks.methods.pretraining.regions import Regions, box_regions, split_masks
from tailforge.tasks.methods.pretraining.views import Pixels

ATTENTION, NONE, BOX = "attention", "none", "box"
ARMS = (ATTENTION, NONE, BOX)


@dataclass(frozen=True)
class MaskedImages:
    """Images uint8 [N, side, side, 3] with captions; `nouns` names the values of masks, value 1 first.

    `regions` is None without masks. `origin` is the name of the images in the report, `masks` that of the regions.
    """

    pixels: Pixels
    captions: tuple[str, ...]
    nouns: tuple[str, ...]
    regions: Regions | None
    origin: str
    masks: str
    left_out: LeftOut = field(default_factory=LeftOut)

    def __len__(self) -> int:
        return len(self.pixels)


def open_masked(opened: Images, split: str, masks: str, images: int | None = None, seed: int = 0) -> MaskedImages:
    """Return images of a split with the regions that `masks` names.

    `masks`: attention (the source's own), none, box, or a folder of <id>.png. `images` draws a random choice of so
    many, with equal numbers per class where possible. Images without a caption get one from their label, else an empty
    one. Errors: NotFoundError; ImagesError naming the unusable image or mask.
    """
    if masks not in ARMS and not Path(masks).is_dir():
        raise NotFoundError(f"--masks {masks!r} is no folder; give {', '.join(ARMS)}, or a folder of <sample_id>.png")

    opened.left_out.refuse()
    chosen = _choose(opened.of_split(split), images, seed)
    pixels = _stack(chosen)
    regions, categories = _find_regions(chosen, masks, pixels.shape[1])
    captions = caption_by_class(chosen.captions, chosen.labels_as_found, DEFAULT, chosen.origin)
    return MaskedImages(
        pixels=pixels,
        captions=tuple(caption or "" for caption in captions),
        nouns=tuple(category.name for category in categories),
        regions=regions,
        origin=_without_folders(opened, chosen),
        masks=masks if masks in ARMS else Path(masks).resolve().name,
        left_out=chosen.left_out,
    )


def _without_folders(opened: Images, chosen: Images) -> str:
    """Return the name of the images in the report: that of a file or folder without its parents."""
    if opened.found.kind == "version":
        return chosen.origin
    return chosen.origin.replace(opened.origin, Path(opened.origin).resolve().name, 1)


def require_fit(images: MaskedImages, batch: int, patch_px: int) -> None:
    """Check the size and number of images. Errors: ImagesError if patches do not divide them or a batch has more."""
    side = images.pixels.shape[1]
    if side % patch_px or side == patch_px:
        raise ImagesError(
            f"images of {images.origin} are {side} pixels wide, patches {patch_px}; set patch_px to a number that "
            f"divides {side} into two patches or more"
        )
    if batch > len(images):
        raise ImagesError(f"{images.origin} has {count_of(len(images), 'image')}, a batch has {batch}; lower --batch")


def require_captions(images: MaskedImages) -> None:
    """Check that every image has a caption. Errors: ImagesError counting those without."""
    if missing := sum(not caption.strip() for caption in images.captions):
        raise ImagesError(
            f"{count_of(missing, 'image')} of {images.origin} without caption and label; the use caption learns from "
            "captions: add them, or choose another --use"
        )


def _choose(images: Images, count: int | None, seed: int) -> Images:
    """Return a random choice of images. Errors: ImagesError if there are too few."""
    if count is None:
        return images
    if count > len(images):
        raise ImagesError(f"the split has {count_of(len(images), 'image')}, --images requests {count}; request fewer")
    _, labels = np.unique([label or "" for label in images.labels], return_inverse=True)
    return images.select(choose_rows(labels, count, seed))


def _stack(images: Images) -> Pixels:
    """Return the pixels of all images. Errors: ImagesError for images of different sizes."""
    stacked: list[Pixels] = []
    for source, data in zip(images.sources, images.stream(), strict=True):
        picture = decode_picture(data, source, show_rgb)
        side = stacked[0].shape[0] if stacked else picture.width
        if picture.size != (side, side):
            raise ImagesError(
                f"{source} is {picture.width} x {picture.height} pixels (width x height), {images.ids[0]} "
                f"is {side} wide; pre-training needs square images of one size"
            )
        stacked.append(np.asarray(picture, np.uint8))
    return np.stack(stacked)


def _find_regions(images: Images, masks: str, side: int) -> tuple[Regions | None, tuple[Category, ...]]:
    """Return the regions that `masks` names, and the meaning of their values; no regions without masks.

    Errors: ImagesError if no mask shows a thing.
    """
    categories = images.found.categories
    if masks == NONE:
        return None, categories
    own = masks not in ARMS
    read = [_read_own(_own_file(masks, each), side) if own else _read_mask(each, side) for each in images]
    categories = categories or _name_values(read)
    for record, mask in zip(images, read, strict=True):
        _require_known(mask, record, categories, _own_file(masks, record) if own else None)

    things = {value for value, category in enumerate(categories, 1) if category.thing}
    regions = split_masks(read, things, [{} if own else _scores(record) for record in images])
    if regions.areas.shape[1] == 1:
        raise ImagesError(
            f"no mask of {masks if own else images.origin} shows a thing; give images with masks, or --masks none"
        )
    return (box_regions(regions, list(images.ids)) if masks == BOX else regions), categories


def _own_file(masks: str, record: Record) -> Path:
    """Return the file of a user's mask: the image's id without the suffix of an image, with .png."""
    stem, suffix = os.path.splitext(record.id)
    return Path(masks) / f"{stem if suffix.lower() in SUFFIXES else record.id}.png"


def _name_values(masks: Sequence[Mask]) -> tuple[Category, ...]:
    """Return categories that are named by their values, for masks whose source does not name them."""
    values = np.unique(np.concatenate([np.unique(mask) for mask in masks]))
    return tuple(Category(name=str(value)) for value in range(1, int(values[values < IGNORE].max(initial=0)) + 1))


def _read_mask(record: Record, side: int) -> Mask:
    """Return the mask of the record's source; background without one. Errors: ImagesError for another size."""
    mask = record.read_mask()
    if mask is None:
        return np.zeros((side, side), np.uint8)
    if mask.shape != (side, side):
        raise _misfit(record, f"its size is {mask.shape[1]} x {mask.shape[0]}, that of its image {side} x {side}")
    return mask


def _require_known(mask: Mask, record: Record, categories: Sequence[Category], file: Path | None) -> None:
    """Check that every value of a mask is a category. `file`: the user's mask. Errors: ImagesError."""
    unknown = sorted(set(np.unique(mask).tolist()) - {*range(len(categories) + 1), IGNORE})
    if not unknown:
        return
    if file is None:
        raise _misfit(record, f"the value {unknown[0]} is no category")
    raise ImagesError(f"{file} holds the value {unknown[0]}, which is no category; write {_values(len(categories))}")


def _misfit(record: Record, reason: str) -> ImagesError | VerificationError:
    """Return the error for a mask that does not fit its image: damage in a version, else a user's mistake."""
    message = f"the mask of {record.source} does not fit its image: {reason}"
    if record.is_published:
        return VerificationError(f"{message}; {LOOK}")
    return ImagesError(f"{message}; write the mask at the image's size, with the numbers of the categories")


def _scores(record: Record) -> dict[int, float]:
    """Return the confidence per mask value; instances of one category form one region, so their highest counts."""
    scores: dict[int, float] = {}
    for instance in record.instances:
        scores[instance.value] = max(scores.get(instance.value, 0.0), instance.score)
    return scores


def _values(categories: int) -> str:
    return f"0 for background, 1 to {categories} for categories, {IGNORE} for ignored pixels"


def _read_own(file: Path, side: int) -> Mask:
    """Return the user's mask of an image. Errors: ImagesError."""
    try:
        mask = decode_mask(require_inside(file, file.parent).read_bytes())
    except FileNotFoundError as error:
        raise ImagesError(f"{file.parent} has no mask {file.name}; it needs one for every sample used") from error
    except (OSError, PictureError) as error:
        raise ImagesError(
            f"{file} cannot be read as a mask: {describe_failure(error)}; write an indexed PNG (0 for background, 1 "
            f"upwards for categories, {IGNORE} for ignored pixels)"
        ) from error

    if mask.shape != (side, side):
        raise ImagesError(
            f"{file} is {mask.shape[1]} x {mask.shape[0]} pixels (width x height), its image {side} x {side}; write "
            "the mask at the image's size"
        )
    return mask
