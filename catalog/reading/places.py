"""Keep the byte ranges of all selected samples in memory, so that any of them is read by its number."""

import os
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.reading.cache import ShardCache
from tailforge.catalog.reading.index import ShardRows, SplitIndex, open_manifest, read_shard_rows
from tailforge.catalog.reading.samples import Sample, read_rows
from tailforge.catalog.store import Store

DIGEST_BYTES = 32  # of a sha256


@dataclass(frozen=True)
class Places:
    """Byte ranges of the N selected samples of a split, in published order.

    `shards`: number of each sample's shard, int32 [N]. `keys`: sample ids, S16 [N]. `offsets` and `sizes`: bytes, int64
    [N, field]. `digests`: sha256, uint8 [N, field, 32], or None if not read.
    """

    shards: NDArray[np.int32]
    keys: NDArray[Any]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    digests: NDArray[np.uint8] | None

    def take(self, places: NDArray[np.int64]) -> ShardRows:
        """Return the byte ranges of some samples of one shard; `places`: their numbers, int64 [n], ascending."""
        digests = None
        if self.digests is not None:
            digests = np.array([[each.tobytes() for each in row] for row in self.digests[places]], object)
        keys = [key.decode() for key in self.keys[places].tolist()]
        return ShardRows(keys, self.offsets[places], self.sizes[places], digests)


def read_places(store: Store, index: SplitIndex, *, digests: bool) -> Places:
    """Read the byte ranges of an index's samples from the manifest. Errors: VerificationError for a damaged version."""
    found: list[tuple[int, ShardRows]] = []
    with open_manifest(store, index.folder) as manifest:
        for shard, entry in enumerate(index.shards):
            rows = np.arange(entry.samples) if index.rows is None else index.rows[shard].astype(np.int64)
            if len(rows):
                found.append((shard, read_shard_rows(manifest, index, shard, rows, digests=digests)))

    # An empty part gives the arrays their shapes if no sample is selected.
    width = len(index.fields)
    none = np.empty((0, width), np.int64)
    packed = [_pack_digests(rows.digests) for _, rows in found if rows.digests is not None]
    return Places(
        np.repeat(np.array([shard for shard, _ in found], np.int32), [len(rows.keys) for _, rows in found]),
        np.array([key for _, rows in found for key in rows.keys], "S16"),
        np.concatenate([none, *(rows.offsets for _, rows in found)]),
        np.concatenate([none, *(rows.sizes for _, rows in found)]),
        np.concatenate([np.empty((0, width, DIGEST_BYTES), np.uint8), *packed]) if digests else None,
    )


def _pack_digests(digests: NDArray[np.object_]) -> NDArray[np.uint8]:
    """Return digests [n, field] as uint8 [n, field, 32]."""
    return np.frombuffer(b"".join(digests.ravel().tolist()), np.uint8).reshape(*digests.shape, DIGEST_BYTES)


def read_numbers(
    index: SplitIndex, places: Places, numbers: NDArray[np.int64], cache: ShardCache | None
) -> dict[int, tuple[str, str, Sample]]:
    """Return (address of the shard, key, members) by number. `numbers`: int64 [n], ascending without repetition.

    Neighbours in a shard share a request. `cache`: keeps whole shards. Errors: VerificationError for a missing or
    damaged shard.
    """
    store = _open_store(index.store, os.getpid())
    found: dict[int, tuple[str, str, Sample]] = {}
    owners = places.shards[numbers].tolist()

    for shard, pairs in groupby(zip(owners, numbers.tolist(), strict=True), itemgetter(0)):
        here = np.array([number for _, number in pairs], np.int64)
        origin = f"{index.store}/{index.path(shard)}"
        samples = read_rows(store, index, shard, places.take(here), cache)
        found |= {number: (origin, *sample) for number, sample in zip(here.tolist(), samples, strict=True)}
    return found


@lru_cache(maxsize=16)
def _open_store(uri: str, process: int) -> Store:
    """Open a store once per process, since connections do not survive a fork."""
    return Store.open(uri)
