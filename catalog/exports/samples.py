"""Read samples of a published version for the export formats."""

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
    """A sample for export.

    `number`: counted from 1 over all splits of the version, so that it does not depend on the exported splits.
    `class_id`: from 0. `image` and `mask`: bytes of their files. `suffix`: png or jpg. `width` and `height`: pixels.
    `instances`: INSTANCES.
    """

    number: int
    key: str
    class_id: int
    suffix: str
    image: bytes
    mask: bytes
    caption: str
    width: int
    height: int
    instances: tuple[Mapping[str, Any], ...]

    @property
    def file_name(self) -> str:
        """Return the file name of the image."""
        return f"{self.key}.{self.suffix}"

    def open_mask(self) -> Image.Image:
        """Return the decoded indexed mask at the image's size. Errors: VerificationError."""
        try:
            image = open_picture(self.mask, PNG, to_mask)
            if image.size != (self.width, self.height):
                raise ValueError(f"it has {image.size} pixels, its image ({self.width}, {self.height})")
            return image
        except (PictureError, ValueError) as error:
            raise VerificationError(f"the mask of sample {self.key} cannot be used: {error}; {LOOK}") from error

    def things(self, dataset: Dataset) -> list[Mapping[str, Any]]:
        """Return the instances of things, without stuff."""
        return [each for each in self.instances if dataset.mask_categories[each["category_id"] - 1].thing]

    def region(self, instance: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Return the region [height, width] of one of `instances`. Errors: VerificationError."""
        try:
            return decode_rle(instance["rle"], self.height, self.width)
        except ValueError as error:
            raise VerificationError(
                f"the run lengths of an instance of sample {self.key} do not fit its image: {error}; {LOOK}"
            ) from error


def list_splits(dataset: Dataset) -> list[str]:
    """Return the splits with samples, in alphabetic order."""
    return sorted({shard.split for shard in dataset.shards})


def open_split(store: Store, dataset: Dataset, split: str) -> Iterator[ExportedSample]:
    """Return an iterator over a split in published order, which compares every byte with the manifest.

    Errors: NotFoundError at once for an unknown split; VerificationError at a damaged sample.
    """
    samples = open_dataset(store.uri, dataset.version, split, name=dataset.name, decode=False, verify=True, **WHOLE)
    first = 1 + sum(shard.samples for shard in dataset.shards if shard.split < split)
    suffix = "png" if "png" in dataset.fields else "jpg"
    origin = f"{store.uri}: split {split} of {dataset.name} {dataset.version}"
    return _read_samples(samples, dataset, first, suffix, origin)


def _read_samples(
    samples: ShardedDataset, dataset: Dataset, first: int, suffix: str, origin: str
) -> Iterator[ExportedSample]:
    """Yield samples with numbers from `first`. Errors: VerificationError."""
    for number, sample in enumerate(samples, first):
        try:
            converted = _convert(sample, dataset, number, suffix)
        except (PictureError, ValueError) as error:
            raise VerificationError(
                f"{origin}: sample {sample['key']} cannot be used: {describe_damage(error)}; {LOOK}"
            ) from error
        yield converted


def _convert(sample: Mapping[str, Any], dataset: Dataset, number: int, suffix: str) -> ExportedSample:
    """Return a sample with checked document and size. Errors: PictureError, ValueError for an impossible sample."""
    document = SampleDocument.model_validate(sample["json"])
    instances = [each.model_dump() for each in document.instances]
    if strange := next((each for each in instances if not is_of_category(dataset, each)), None):
        raise ValueError(
            f"it has an instance of {strange['category']!r:.80} as category {strange['category_id']}, which has "
            "another name in dataset.json"
        )

    width, height = measure_picture(sample["image"], PUBLISHED[suffix])
    if (width, height) != (document.width, document.height):
        raise ValueError(f"its image is {width}x{height} pixels, its JSON says {document.width}x{document.height}")

    return ExportedSample(
        number=number,
        key=sample["key"],
        class_id=sample["cls"],
        suffix=suffix,
        image=sample["image"],
        mask=sample["mask"],
        caption=sample["caption"],
        width=document.width,
        height=document.height,
        instances=tuple(instances),
    )
