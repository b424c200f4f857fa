"""Samples of a published version as the formats take them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from catalog.exports.run_lengths import decode_rle
from catalog.pictures import PNG, open_picture, to_mask
from catalog.reader import WHOLE, ShardedDataset, open_dataset
from catalog.registry import is_of_category
from catalog.store import Store
from schemas.dataset import Dataset
from schemas.errors import PictureError, VerificationError

SAMPLE_ID = re.compile(r"[0-9a-f]{16}")  # it becomes a file's name, and a version may come from anywhere
LOOK = "run `tailforge verify` to see what else is wrong"


@dataclass(frozen=True)
class ExportedSample:
    """`number` counts from 1 over all splits of the version, so that it is the same whichever of them are exported.

    `image` and `mask` are the bytes of their files, `suffix` is png or jpg; `instances` are rows of INSTANCES.
    """

    number: int
    key: str
    suffix: str
    image: bytes
    mask: bytes
    caption: str
    width: int
    height: int
    instances: tuple[Mapping[str, Any], ...]

    @property
    def file_name(self) -> str:
        return f"{self.key}.{self.suffix}"

    def open_mask(self) -> Image.Image:
        """The indexed mask, decoded, of the image's size. Errors: VerificationError."""
        try:
            image = open_picture(self.mask, PNG, to_mask)
            if image.size != (self.width, self.height):
                raise ValueError(f"it has {image.size} pixels, its image ({self.width}, {self.height})")
            return image
        except (PictureError, ValueError) as error:
            raise VerificationError(f"the mask of sample {self.key} cannot be used: {error}; {LOOK}") from error

    def things(self, dataset: Dataset) -> list[Mapping[str, Any]]:
        """The instances that have a box of their own; not stuff."""
        return [each for each in self.instances if dataset.mask_categories[each["category_id"] - 1].thing]

    def region(self, instance: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Pixels [height, width] of one of `instances`. Errors: VerificationError."""
        try:
            return decode_rle(instance["rle"], self.height, self.width)
        except ValueError as error:
            raise VerificationError(
                f"the run lengths of an instance of sample {self.key} do not fit its image: {error}; {LOOK}"
            ) from error


def list_splits(dataset: Dataset) -> list[str]:
    """Splits that hold samples, in alphabetic order."""
    return sorted({shard.split for shard in dataset.shards})


def open_split(store: Store, dataset: Dataset, split: str) -> Iterator[ExportedSample]:
    """Samples of a split in their published order, read as they are asked for.

    Errors: NotFoundError at once for an unknown split; VerificationError for damage, when it is reached.
    """
    samples = open_dataset(store.uri, dataset.version, split, name=dataset.name, decode=False, **WHOLE)
    first = 1 + sum(shard.samples for shard in dataset.shards if shard.split < split)
    suffix = "png" if "png" in dataset.fields else "jpg"
    origin = f"{store.uri}: split {split} of {dataset.name} {dataset.version}"
    return _read_samples(samples, dataset, first, suffix, origin)


def _read_samples(
    samples: ShardedDataset, dataset: Dataset, first: int, suffix: str, origin: str
) -> Iterator[ExportedSample]:
    for number, sample in enumerate(samples, first):
        yield _convert(sample, dataset, number, suffix, origin)


def _convert(sample: Mapping[str, Any], dataset: Dataset, number: int, suffix: str, origin: str) -> ExportedSample:
    key, known = sample["key"], sample["json"]
    if not SAMPLE_ID.fullmatch(key):
        raise VerificationError(f"{origin} has a sample {key!r}, and sample ids are 16 hex digits; {LOOK}")
    if strange := next((each for each in known["instances"] if not is_of_category(dataset, each)), None):
        raise VerificationError(
            f"{origin}: sample {key} has an instance of {strange['category']!r} as category {strange['category_id']}, "
            f"which is none of that name in dataset.json; {LOOK}"
        )
    return ExportedSample(
        number=number,
        key=key,
        suffix=suffix,
        image=sample["image"],
        mask=sample["mask"],
        caption=sample["caption"],
        width=known["width"],
        height=known["height"],
        instances=tuple(known["instances"]),
    )
