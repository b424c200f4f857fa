"""Samples of a published version as the formats take them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.pictures import PNG, PUBLISHED, measure_picture, open_picture, to_mask
from tailforge.catalog.reading.open_dataset import WHOLE, ShardedDataset, open_dataset
from tailforge.catalog.reading.tables import LOOK
from tailforge.catalog.registry import is_of_category
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.foreign_json import describe_damage
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.documents.sample import SampleDocument
from tailforge.schemas.errors import PictureError, VerificationError


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
    """Samples of a split in their published order, read as they are asked for, every byte compared with the manifest.

    Errors: NotFoundError at once for an unknown split; VerificationError for damage, when it is reached.
    """
    samples = open_dataset(store.uri, dataset.version, split, name=dataset.name, decode=False, verify=True, **WHOLE)
    first = 1 + sum(shard.samples for shard in dataset.shards if shard.split < split)
    suffix = "png" if "png" in dataset.fields else "jpg"
    origin = f"{store.uri}: split {split} of {dataset.name} {dataset.version}"
    return _read_samples(samples, dataset, first, suffix, origin)


def _read_samples(
    samples: ShardedDataset, dataset: Dataset, first: int, suffix: str, origin: str
) -> Iterator[ExportedSample]:
    for number, sample in enumerate(samples, first):
        try:
            converted = _convert(sample, dataset, number, suffix)
        except (PictureError, ValueError) as error:
            raise VerificationError(
                f"{origin}: sample {sample['key']} cannot be used: {describe_damage(error)}; {LOOK}"
            ) from error
        yield converted


def _convert(sample: Mapping[str, Any], dataset: Dataset, number: int, suffix: str) -> ExportedSample:
    """Errors: PictureError, ValueError for a sample that says what cannot be."""
    document = SampleDocument.model_validate(sample["json"])
    instances = [each.model_dump() for each in document.instances]
    if strange := next((each for each in instances if not is_of_category(dataset, each)), None):
        raise ValueError(
            f"it has an instance of {strange['category']!r:.80} as category {strange['category_id']}, which is none of "
            "that name in dataset.json"
        )
    width, height = measure_picture(sample["image"], PUBLISHED[suffix])
    if (width, height) != (document.width, document.height):
        raise ValueError(f"its image is {width}x{height} pixels, its JSON says {document.width}x{document.height}")
    return ExportedSample(
        number=number,
        key=sample["key"],
        suffix=suffix,
        image=sample["image"],
        mask=sample["mask"],
        caption=sample["caption"],
        width=document.width,
        height=document.height,
        instances=tuple(instances),
    )
