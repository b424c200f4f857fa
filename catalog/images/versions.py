"""Read a published version as images with labels, captions, boxes and masks."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tailforge.catalog.images.masks import decode_user_mask
from tailforge.catalog.images.records import Found, Instance
from tailforge.catalog.reading.index import MANIFEST_FILE, SplitIndex
from tailforge.catalog.reading.samples import Sample, read_samples
from tailforge.catalog.reading.version import Version, open_version
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import IMAGE_FIELDS
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.errors import VerificationError

COLUMNS = ("sample_id", "class_id", "caption", "split", "width", "height", "instances")


def read_version(address: str, name: str, version: str = "latest") -> Found:
    """Return the samples of a version of the store at `address`, in the order of the shards.

    Errors: NotFoundError; VerificationError for a damaged version, also when a sample is read.
    """
    opened = open_version(Store.open(address), name, version, ("manifest",))
    table = opened.read_table("manifest", COLUMNS)
    dataset, ids = opened.dataset, table["sample_id"].to_pylist()
    files = SampleFiles(opened, ids)
    classes = table["class_id"].to_pylist()
    own = table["split"].to_pylist()
    splits = list(dict.fromkeys(own))
    return Found(
        kind="version",
        origin=f"{opened.label} ({', '.join(splits)})",
        ids=ids,
        places=[f"{opened.label} ({split}): sample {key}" for key, split in zip(ids, own, strict=True)],
        pixels=files,
        labels=[dataset.classes[number] for number in classes],
        splits=own,
        captions=table["caption"].to_pylist(),
        split_origins={split: f"{opened.label} ({split})" for split in splits},
        categories=tuple(dataset.mask_categories),
        instances=lambda row: _list_instances(table, row),
        mask=files.read_mask,
        has_masks=True,
    )


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
        self._samples: Iterator[Sample] = iter(())
        self._last: tuple[int, Sample] = (-2, {})

    def read(self, row: int) -> bytes:
        """Return the bytes of a sample's image; rows in turn cost one pass. Errors: VerificationError."""
        return self._sample(row)[self._image]

    def read_mask(self, row: int) -> NDArray[np.uint8]:
        """Return the values of a sample's mask, uint8 [height, width]. Errors: ImagesError, VerificationError."""
        return decode_user_mask(self._sample(row)["seg.png"], f"{self._label}: sample {self._ids[row]}")

    def stream(self, rows: Iterable[int]) -> Iterator[bytes]:
        """Yield the bytes of several images. Errors: VerificationError."""
        wanted = np.fromiter(rows, np.int64)
        if (np.diff(wanted) <= 0).any():
            return (self.read(int(row)) for row in wanted)
        return (sample[self._image] for sample in self._stream(wanted))

    def _sample(self, row: int) -> Sample:
        if row == self._last[0]:
            return self._last[1]
        if row != self._last[0] + 1:
            self._samples = self._stream(np.arange(row, len(self._ids)))
        self._last = (row, next(self._samples))
        return self._last[1]

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


def _list_instances(table: pa.Table, row: int) -> tuple[Instance, ...]:
    """Return the objects of a sample; none if an older version does not tell them."""
    if "instances" not in table.column_names:
        return ()
    height, width = (table[name][row].as_py() for name in ("height", "width"))
    return tuple(_convert(each, height, width) for each in table["instances"][row].as_py() or ())


def _convert(row: dict[str, Any], height: int, width: int) -> Instance:
    def region() -> NDArray[np.bool_]:
        """Return the pixels of the object."""
        try:
            return decode_rle(row["rle"], height, width)
        except ValueError as error:
            raise VerificationError(f"the run lengths of an instance do not fit its image: {error}") from error

    x, y, box_width, box_height = row["bbox"]
    return Instance(row["category"], row["category_id"], (x, y, box_width, box_height), row["score"], False, region)
