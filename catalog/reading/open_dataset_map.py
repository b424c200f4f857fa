"""Read the samples of a published version by their number, for samplers of a training job. It imports no torch."""

import os
from collections.abc import Iterator, Sequence
from operator import index as to_index
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from tailforge.catalog.reading.batches import register_collate
from tailforge.catalog.reading.cache import ShardCache
from tailforge.catalog.reading.decoding import Decoder
from tailforge.catalog.reading.index import SplitIndex, filter_index, read_labels
from tailforge.catalog.reading.opening import CACHE_BYTES, open_cache, open_split
from tailforge.catalog.reading.places import Places, read_numbers, read_places
from tailforge.catalog.store import Store
from tailforge.schemas.documents.shown import count_of

SYNTHETIC = "synthetic"


def open_dataset_map(
    uri: str | os.PathLike[str],
    version: str = "latest",
    split: str = "train",
    *,
    name: str | None = None,
    decode: bool = True,
    where: pc.Expression | None = None,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = CACHE_BYTES,
    verify: bool = False,
) -> "MapDataset":
    """Return a split of a published version whose samples are read by number: `len(dataset)`, `dataset[i]`.

    The arguments are those of `open_dataset`. A torch DataLoader takes `shuffle`, `sampler` and `batch_sampler` for it.
    Each sample is one read of its own byte range; samples of a batch that are neighbours in a shard share one. The
    reader holds about 100 bytes per sample, and 32 more per member with `verify`. `open_dataset` reads in order, which
    costs fewer requests from a bucket without `cache`.

    Errors: NotFoundError for an unknown dataset, version, split or column; ReadingError for invalid arguments;
    VerificationError for a damaged version.
    """
    opened = open_split(uri, name, version, split, where)
    kept = open_cache(opened.index, cache, cache_bytes)
    places = read_places(opened.store, opened.index, digests=verify)
    return MapDataset(opened.index, places, opened.dataset.classes, opened.categories, decode=decode, cache=kept)


class MapDataset(Sequence[dict[str, Any]]):
    """The samples of one split by number, in published order. It is picklable.

    Samples are those of `ShardedDataset`. `classes`: names by class. `categories`: names by value of the masks, from
    value 1. `source`: synthetic, what `mix_datasets` writes into samples.
    """

    source = SYNTHETIC

    def __init__(
        self,
        index: SplitIndex,
        places: Places,
        classes: tuple[str, ...],
        categories: tuple[str, ...],
        *,
        decode: bool,
        cache: ShardCache | None,
    ) -> None:
        self.version, self.classes, self.categories, self.decode = index.version, classes, categories, decode
        self._index, self._places, self._cache = index, places, cache
        self._decode = Decoder(len(classes), decode)

    def __repr__(self) -> str:
        index = self._index
        return f"<MapDataset {index.name}@{index.version}, split {index.split}, {count_of(len(self), 'sample')}>"

    def __len__(self) -> int:
        return len(self._places.keys)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> dict[str, Any]:  # type: ignore[override]
        """Return one sample; a negative number counts from the end.

        Errors: IndexError for a number outside the dataset; TypeError for a slice; VerificationError at a damaged one.
        """
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return several samples, as a DataLoader requests a batch. Errors: as `__getitem__`."""
        register_collate()
        places = np.array([_find_place(number, len(self)) for number in numbers], np.int64)
        found = read_numbers(self._index, self._places, np.unique(places), self._cache)
        return [self._decode(*found[place]) for place in places.tolist()]

    def filter(self, where: pc.Expression) -> "MapDataset":
        """Return the samples for which an expression over the manifest's columns holds, as `where` of `open_dataset`.

        Errors: NotFoundError for an unknown column; ReadingError for a filter that cannot be computed.
        """
        store = Store.open(self._index.store)
        index = filter_index(store, self._index, where)
        places = read_places(store, index, digests=self._places.digests is not None)
        return MapDataset(index, places, self.classes, self.categories, decode=self.decode, cache=self._cache)

    def identify(self) -> dict[str, Any]:
        """Return the facts, as plain values, that decide the samples and their order."""
        return self._index.identify()

    def read_labels(self) -> NDArray[np.int64]:
        """Return the class of each sample by the manifest, int64 [N]. Errors: VerificationError for a damaged one."""
        return read_labels(Store.open(self._index.store), self._index, len(self.classes))


def _find_place(number: int, length: int) -> int:
    """Return a number counted from 0. Errors: IndexError outside the dataset; TypeError if it is no whole number."""
    try:
        place = to_index(number)
    except TypeError as error:
        raise TypeError(f"{number!r} is no number of a sample; give a whole number") from error
    if not -length <= place < length:
        raise IndexError(f"there is no sample {place}; there are {count_of(length, 'sample')}")
    return place % length
