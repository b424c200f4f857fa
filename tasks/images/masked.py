"""Open images of a published version with regions: the version's masks, none, random boxes or the user's masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailforge.catalog.reading.index import name_split
from tailforge.catalog.reading.reader import WHOLE, open_dataset
from tailforge.catalog.reading.tables import LOOK
from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.foreign_json import describe_damage
from tailforge.schemas.documents.sample import SampleDocument
from tailforge.schemas.documents.shown import count_of, describe_failure
from tailforge.schemas.errors import ImagesError, NotFoundError, PictureError, VerificationError
from tailforge.tasks.images.image_bytes import require_inside
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

    def __len__(self) -> int:
        return len(self.pixels)


def open_masked(
    store: str, name: str, version: str, split: str, masks: str, images: int | None = None, seed: int = 0
) -> MaskedImages:
    """Open images of a version's split with the regions that `masks` names.

    `masks`: attention, none, box, or a folder of <sample_id>.png. `images` draws a random choice of so many, with equal
    numbers per class where possible. Errors: NotFoundError; ImagesError naming the unusable image or mask.
    """
    if masks not in ARMS and not Path(masks).is_dir():
        raise NotFoundError(f"--masks {masks!r} is no folder; give {', '.join(ARMS)}, or a folder of <sample_id>.png")

    dataset = load_dataset(Store.open(store), name, version)
    split = name_split(dataset, split)
    samples = _choose(list(open_dataset(store, dataset.version, split, name=name, **WHOLE)), images, seed)
    origin = f"{name}@{dataset.version} ({split})"
    pixels = _stack(samples, origin)

    return MaskedImages(
        pixels=pixels,
        captions=tuple(sample["caption"] for sample in samples),
        nouns=_nouns(dataset),
        regions=_find_regions(samples, dataset, masks, origin, pixels.shape[1]),
        origin=origin,
        masks=masks if masks in ARMS else Path(masks).resolve().name,
    )


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


def _choose(samples: list[dict[str, Any]], images: int | None, seed: int) -> list[dict[str, Any]]:
    """Return a random choice of samples. Errors: ImagesError if there are too few."""
    if images is None:
        return samples
    if images > len(samples):
        raise ImagesError(f"the split has {count_of(len(samples), 'image')}, --images requests {images}; request fewer")
    labels = np.array([sample["cls"] for sample in samples], np.int64)
    return [samples[row] for row in choose_rows(labels, images, seed)]


def _stack(samples: Sequence[dict[str, Any]], origin: str) -> Pixels:
    """Return the pixels of all samples. Errors: ImagesError for images of different sizes."""
    side = samples[0]["image"].width
    for sample in samples:
        if sample["image"].size != (side, side):
            width, height = sample["image"].size
            raise ImagesError(
                f"{origin}: sample {sample['key']} is {width} x {height} pixels (width x height), {samples[0]['key']} "
                f"is {side} wide; pre-training needs square images of one size"
            )
    return np.stack([np.asarray(sample["image"], np.uint8) for sample in samples])


def _nouns(dataset: Dataset) -> tuple[str, ...]:
    return tuple(category.name for category in dataset.mask_categories)


def _find_regions(
    samples: Sequence[dict[str, Any]], dataset: Dataset, masks: str, origin: str, side: int
) -> Regions | None:
    """Return the regions that `masks` names; None without masks. Errors: ImagesError if no mask shows a thing."""
    if masks == NONE:
        return None
    keys = [sample["key"] for sample in samples]
    own = masks not in ARMS

    found = (
        [_read_own(Path(masks) / f"{key}.png", dataset, side) for key in keys]
        if own
        else _published(samples, dataset, origin)
    )

    things = {value for value, category in enumerate(dataset.mask_categories, 1) if category.thing}
    regions = split_masks(found, things, [{} if own else _scores(sample, origin) for sample in samples])
    if regions.areas.shape[1] == 1:
        raise ImagesError(
            f"no mask of {masks if own else origin} shows a thing; name a version with masks, or --masks none"
        )
    return box_regions(regions, keys) if masks == BOX else regions


def _published(samples: Sequence[dict[str, Any]], dataset: Dataset, origin: str) -> list[Mask]:
    """Return the version's masks. Errors: VerificationError for a mask of another size or with unknown values."""
    known = [*range(len(_nouns(dataset)) + 1), IGNORE]
    masks = [np.asarray(sample["mask"], np.uint8) for sample in samples]
    for sample, mask in zip(samples, masks, strict=True):
        if sample["mask"].size != sample["image"].size or not np.isin(mask, known).all():
            raise VerificationError(
                f"{origin}: the mask of sample {sample['key']} does not fit its image: its size differs or a value is "
                f"no category; {LOOK}"
            )
    return masks


def _read_document(sample: dict[str, Any], origin: str) -> SampleDocument:
    """Return a sample's JSON. Errors: VerificationError."""
    try:
        return SampleDocument.model_validate(sample["json"])
    except ValueError as error:
        raise VerificationError(
            f"{origin}: the JSON of sample {sample['key']} cannot be used: {describe_damage(error)}; {LOOK}"
        ) from error


def _scores(sample: dict[str, Any], origin: str) -> dict[int, float]:
    """Return the confidence per mask value; instances of one category form one region, so their highest counts."""
    scores: dict[int, float] = {}
    for instance in _read_document(sample, origin).instances:
        value = instance.category_id
        scores[value] = max(scores.get(value, 0.0), instance.score)
    return scores


def _read_own(file: Path, dataset: Dataset, side: int) -> Mask:
    """Return the user's mask of a sample. Errors: ImagesError."""
    known = f"0 for background, 1 to {len(_nouns(dataset))} for categories, {IGNORE} for ignored pixels"
    try:
        mask = decode_mask(require_inside(file, file.parent).read_bytes())
    except FileNotFoundError as error:
        raise ImagesError(f"{file.parent} has no mask {file.name}; it needs one for every sample used") from error
    except (OSError, PictureError) as error:
        raise ImagesError(
            f"{file} cannot be read as a mask: {describe_failure(error)}; write an indexed PNG ({known})"
        ) from error

    if mask.shape != (side, side):
        raise ImagesError(
            f"{file} is {mask.shape[1]} x {mask.shape[0]} pixels (width x height), its image {side} x {side}; write "
            "the mask at the image's size"
        )
    if unknown := sorted(set(np.unique(mask).tolist()) - {*range(len(_nouns(dataset)) + 1), IGNORE}):
        raise ImagesError(f"{file} holds the value {unknown[0]}, which is no category; write {known}")
    return mask
