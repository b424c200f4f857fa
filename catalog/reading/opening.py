"""Find a published version by the arguments of its readers, and open one of its splits."""

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from tailforge.catalog.reading.cache import ShardCache
from tailforge.catalog.reading.index import SplitIndex, index_split
from tailforge.catalog.registry import DATASETS, load_dataset, version_folder
from tailforge.catalog.store import Store, is_address, local_path
from tailforge.schemas.dataset import VERSION, Dataset
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import NotFoundError, ReadingError

CACHE_BYTES = 64 * 2**30


@dataclass(frozen=True)
class OpenedSplit:
    """A split of a published version: its store, its dataset.json and its selected samples."""

    store: Store
    dataset: Dataset
    index: SplitIndex

    @property
    def categories(self) -> tuple[str, ...]:
        """Return the names by value of the masks, from value 1."""
        return tuple(category.name for category in self.dataset.mask_categories)


def find_dataset(uri: str | os.PathLike[str], name: str | None, version: str) -> tuple[str, str, str]:
    """Return (address of the store, name, version) for arguments of `open_dataset`.

    Errors: NotFoundError for an address that is no dataset; ReadingError for two different versions.
    """
    given = os.fspath(uri)
    address = given.rstrip("/") if is_address(given) else str(local_path(given))
    if name is not None:
        return address, name, version
    root, _, rest = address.rpartition(f"/{DATASETS}/")
    name, _, named = rest.partition("/")
    if not root or not name or (named and not VERSION.fullmatch(named)):
        raise NotFoundError(f"{given!r} is no dataset; give <store>/{DATASETS}/<name>, or the store and name=")
    if named and version not in ("latest", named):
        raise ReadingError(f"{given!r} is version {named}, but version {version!r} is requested; leave one of them out")
    return root, name, named or version


def open_split(
    uri: str | os.PathLike[str], name: str | None, version: str, split: str, where: pc.Expression | None
) -> OpenedSplit:
    """Open a split for arguments of `open_dataset`. Errors: as `find_dataset` and `index_split`."""
    address, name, version = find_dataset(uri, name, version)
    store = Store.open(address)
    dataset, folder = load_dataset(store, name, version), version_folder(store, name, version)
    return OpenedSplit(store, dataset, index_split(store, dataset, folder, split, where))


def open_cache(index: SplitIndex, cache: str | os.PathLike[str] | None, cache_bytes: int) -> ShardCache | None:
    """Return the cache in a local folder, or None for None.

    Errors: ReadingError for a remote address, and for fewer bytes than a shard of the split has.
    """
    if cache is None:
        return None
    largest = max(shard.bytes for shard in index.shards)
    if largest > cache_bytes:
        raise ReadingError(
            f"cache_bytes is {cache_bytes}, and a shard has {count_of(largest, 'byte')}; give at least as many"
        )
    return ShardCache(_cache_folder(cache), cache_bytes)


def _cache_folder(cache: str | os.PathLike[str]) -> Path:
    """Return the cache's folder. Errors: ReadingError for a remote address."""
    if is_address(os.fspath(cache)):
        raise ReadingError(f"cache {os.fspath(cache)!r} is no folder of this machine; give a local one")
    return local_path(cache)
