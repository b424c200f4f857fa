"""Read a published version as images with labels, captions, boxes and masks."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.cursor import Cursor
from tailforge.catalog.images.masks import decode_user_mask
from tailforge.catalog.images.records import Found, Images, Instance
from tailforge.catalog.reading.index import MANIFEST_FILE, SplitIndex
from tailforge.catalog.reading.samples import Sample, read_samples
from tailforge.catalog.reading.tables import LOOK
from tailforge.catalog.reading.version import Version, open_version
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import IMAGE_FIELDS
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.documents.sample import SampleDocument, SampleInstance
from tailforge.schemas.errors import VerificationError

COLUMNS = ("sample_id", "class_id", "caption", "split")


def open_published(version: Version) -> Images:
    """Return the samples of an opened version, in the order of the shards.

    Errors: VerificationError for a damaged version, also when a sample is read.
    """
    table = version.read_table("manifest", COLUMNS)
    dataset, ids, own = version.dataset, table["sample_id"].to_pylist(), table["split"].to_pylist()
    files = SampleFiles(version, ids)
    splits = list(dict.fromkeys(own))
    found = Found(
        kind="version",
        origin=f"{version.label} ({', '.join(splits)})",
        ids=ids,
        places=[f"{version.label} ({split}): sample {key}" for key, split in zip(ids, own, strict=True)],
        pixels=files,
        labels=[dataset.classes[number] for number in table["class_id"].to_pylist()],
        splits=own,
        captions=table["caption"].to_pylist(),
        split_origins={split: f"{version.label} ({split})" for split in splits},
        categories=tuple(dataset.mask_categories),
        instances=files.read_instances,
        mask=files.read_mask,
    )
    return Images(found, np.arange(len(ids)), found.origin)


def open_version_images(address: str, name: str, version: str = "latest") -> Images:
    """Return the samples of a version of the store at `address`. Errors: NotFoundError, VerificationError."""
    return open_published(open_version(Store.open(address), name, version, ("manifest",)))


class SampleFiles:
    """The files of a version's samples, by their row in the manifest."""

    def __init__(self, version: Version, ids: list[str]) -> None:
        dataset, self._label, self._ids = version.dataset, version.label, ids
        digest = dataset.files[MANIFEST_FILE].sha256
        groups = tuple(range(len(dataset.shards)))
        self._index = SplitIndex(
            version.store.uri, version.folder, dataset.name, dataset.version, "", digest, dataset.fields,
            dataset.shards, groups,
        )  # fmt: skip
        self._image = next(field for field in IMAGE_FIELDS if field in dataset.fields)
        self._cursor = Cursor(lambda row: self._stream(np.arange(row, len(ids))))

    def read(self, row: int) -> bytes:
        """Return the bytes of a sample's image; rows in turn cost one pass. Errors: VerificationError."""
        return self._cursor.read(row)[self._image]

    def read_mask(self, row: int) -> NDArray[np.uint8]:
        """Return the values of a sample's mask, uint8 [height, width]. Errors: ImagesError, VerificationError."""
        return decode_user_mask(self._cursor.read(row)["seg.png"], f"{self._label}: sample {self._ids[row]}")

    def read_instances(self, row: int) -> tuple[Instance, ...]:
        """Return the objects in a sample's JSON. Errors: VerificationError."""
        try:
            document = SampleDocument.model_validate(parse_object(self._cursor.read(row)["json"]))
        except ValueError as error:
            raise VerificationError(
                f"{self._label}: the JSON of sample {self._ids[row]} cannot be used: {describe_damage(error)}; {LOOK}"
            ) from error
        return tuple(_convert(each, document.height, document.width) for each in document.instances)

    def file_of(self, row: int) -> None:
        """Return None: the bytes are in a shard."""

    def stream(self, rows: Iterable[int]) -> Iterator[bytes]:
        """Yield the bytes of several images. Errors: VerificationError."""
        wanted = np.fromiter(rows, np.int64)
        if (np.diff(wanted) <= 0).any():
            return (self.read(int(row)) for row in wanted)
        return (sample[self._image] for sample in self._stream(wanted))

    def _stream(self, rows: NDArray[np.int64]) -> Iterator[Sample]:
        """Yield the samples of rising rows. Errors: VerificationError for shards that hold others."""
        order = np.arange(len(self._index.shards))
        count = 0
        for row, _, key, sample in read_samples(self._index, rows, order):
            if key != self._ids[row]:
                raise self._lacks(row)
            count += 1
            yield sample
        if count < len(rows):
            raise self._lacks(int(rows[count]))

    def _lacks(self, row: int) -> VerificationError:
        return VerificationError(
            f"{self._label}: the shards lack sample {self._ids[row]} of the manifest; `tailforge verify` says what is "
            "damaged"
        )


def _convert(instance: SampleInstance, height: int, width: int) -> Instance:
    def region() -> NDArray[np.bool_]:
        """Return the pixels of the object, bool [height, width]."""
        try:
            return decode_rle(instance.rle, height, width)
        except ValueError as error:
            raise VerificationError(f"the run lengths of an instance do not fit its image: {error}; {LOOK}") from error

    x, y, box_width, box_height = instance.bbox
    box = (x, y, box_width, box_height)
    return Instance(instance.category, instance.category_id, box, instance.score, instance.crowd, region)
