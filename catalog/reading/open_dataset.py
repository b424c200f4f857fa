"""Read a published version in a training job, from a folder or an object store, without torch or Prefect."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from tailforge.catalog.pictures import PNG, PUBLISHED, open_picture, to_mask, to_rgb
from tailforge.catalog.reading.arrays import read_array
from tailforge.catalog.reading.cache import ShardCache
from tailforge.catalog.reading.index import SplitIndex, index_split
from tailforge.catalog.reading.order import (
    Reader,
    check_rank,
    draw_samples,
    draw_shards,
    find_rank,
    find_reader,
    is_worker,
)
from tailforge.catalog.reading.samples import AGAIN, Sample, read_samples
from tailforge.catalog.registry import DATASETS, load_dataset, version_folder
from tailforge.catalog.store import Store, is_address, local_path
from tailforge.schemas.dataset import VERSION
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import NotFoundError, PictureError, ReadingError, VerificationError

STATE_FORMAT = "tailforge-reader/1"
CACHE_BYTES = 64 * 2**30
WHOLE: dict[str, Any] = {"rank": 0, "world_size": 1}  # for code that reads a whole split in any process


def open_dataset(
    uri: str | os.PathLike[str],
    version: str = "latest",
    split: str = "train",
    *,
    name: str | None = None,
    decode: bool = True,
    where: pc.Expression | None = None,
    shuffle_seed: int | None = None,
    shuffle_buffer: int = 1000,
    rank: int | None = None,
    world_size: int | None = None,
    batch_size: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = CACHE_BYTES,
    verify: bool = False,
) -> "ShardedDataset":
    """Return a split of a published version.

    `uri`: `<store>/datasets/<name>`, its folder of a version, or the store if `name` is given. It is a path, relative
    to the current folder, or an address such as s3://bucket/store/datasets/NAME. `split`: val stands for validation.

    - `decode`: False keeps images and masks as the bytes of their files.
    - `where`: keeps samples for which an expression over the manifest's columns holds: `pc.field("sharpness") > 100`.
    - `shuffle_seed`: gives each epoch (`set_epoch`) another order of the shards, and of samples within a distance of
      `shuffle_buffer`. A reader holds that many samples in memory.
    - `rank`, `world_size`: select this process's part. The default is that of torch.distributed if it is initialised.
    - `batch_size`: that of a DataLoader with workers, so that `len(loader)` equals the number of batches. Without it,
      they are equal for powers of two up to 1024 and up to a quarter of a worker's share.
    - `cache`: a local folder for whole shards, of at most `cache_bytes`.
    - `verify`: compares the sha256 of each member with the manifest.

    Errors: NotFoundError for an unknown dataset, version, split or column; ReadingError for invalid arguments;
    VerificationError for a damaged version.
    """
    address, name, version = find_dataset(uri, name, version)
    check_rank(rank, world_size)
    if shuffle_buffer < 1 or (shuffle_seed is not None and shuffle_seed < 0):
        raise ReadingError(
            f"shuffle_seed is {shuffle_seed} and shuffle_buffer {shuffle_buffer}; give a seed of 0 or more and a "
            "buffer of 1 or more"
        )
    if batch_size is not None and batch_size < 1:
        raise ReadingError(f"batch_size is {batch_size}; give 1 or more, or leave it out")

    store = Store.open(address)
    dataset, folder = load_dataset(store, name, version), version_folder(store, name, version)
    index = index_split(store, dataset, folder, split, where)
    largest = max(shard.bytes for shard in index.shards)
    if cache is not None and largest > cache_bytes:
        raise ReadingError(
            f"cache_bytes is {cache_bytes}, and a shard has {count_of(largest, 'byte')}; give at least as many"
        )

    kept = None if cache is None else ShardCache(_cache_folder(cache), cache_bytes)
    options = Options(decode, shuffle_seed, shuffle_buffer, rank, world_size, batch_size, kept, verify)
    uris = tuple(store.fs.unstrip_protocol(store.path(index.path(number))) for number in range(len(index.shards)))
    categories = tuple(category.name for category in dataset.mask_categories)
    return ShardedDataset(index, options, uris, dataset.classes, categories)


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


def _cache_folder(cache: str | os.PathLike[str]) -> Path:
    """Return the cache's folder. Errors: ReadingError for a remote address."""
    if is_address(os.fspath(cache)):
        raise ReadingError(f"cache {os.fspath(cache)!r} is no folder of this machine; give a local one")
    return local_path(cache)


@dataclass(frozen=True)
class Options:
    """Options of reading a split; `open_dataset` describes them."""

    decode: bool
    shuffle_seed: int | None
    shuffle_buffer: int
    rank: int | None
    world_size: int | None
    batch_size: int | None
    cache: ShardCache | None
    verify: bool


class ShardedDataset:
    """The samples of one split, in published or shuffled order. It is iterable many times, sized and picklable.

    A sample is a dict: `key`, `image` (PIL, RGB), `mask` (PIL, palette: 0 background, 1..254 category, 255 ignore),
    `caption`, `cls` (class, int), `json` (dict), and, if published, `attention` and `noise` (float16 arrays).
    `classes`: names by class. `categories`: names by value of the masks, from value 1: the classes, then other masked
    words. `shards`: addresses of the tars.

    A torch DataLoader accepts it as an IterableDataset. Ranks and workers read separate parts of an epoch, and all
    parts together hold every sample once. The length is that of the rank's part. `state_dict` and `load_state_dict`
    resume an iteration.
    """

    def __init__(
        self,
        index: SplitIndex,
        options: Options,
        shards: tuple[str, ...],
        classes: tuple[str, ...],
        categories: tuple[str, ...],
    ) -> None:
        self.shards, self.version, self.classes, self.categories = shards, index.version, classes, categories
        self._index, self._options = index, options
        self._epoch, self._position = 0, 0
        self._loaded: Reader | None = None  # reader of a loaded state, until the next iteration
        self._passes = 0
        if torch_data := sys.modules.get("torch.utils.data"):
            # DataLoader recognises iterable datasets by class; register avoids importing torch to inherit from it.
            torch_data.IterableDataset.register(ShardedDataset)

    def __repr__(self) -> str:
        index = self._index
        return f"<ShardedDataset {index.name}@{index.version}, split {index.split}, {count_of(len(self), 'sample')}>"

    def __len__(self) -> int:
        reader = find_reader(self._options.rank, self._options.world_size)
        return len(Reader(reader.rank, reader.world_size).run(int(self._index.counts.sum())))

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Raise TypeError. A DataLoader calls this if torch was imported after the dataset was opened."""
        raise TypeError("samples are read in order, not by number; for a DataLoader import torch before open_dataset")

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the rank, since torch.distributed is not initialised in a spawned worker process."""
        return {**vars(self), "_found": find_rank() if self._options.rank is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        found = state.pop("_found")
        vars(self).update(state)
        if found is not None:
            self._options = replace(self._options, rank=found[0], world_size=found[1])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over this reader's samples of the epoch.

        Errors: ReadingError after loading the state of another reader; VerificationError at a damaged sample.
        """
        reader = find_reader(self._options.rank, self._options.world_size)
        if self._loaded is None:
            self._position = 0
        elif self._loaded != reader:
            raise _foreign("reader", asdict(self._loaded), asdict(reader))
        self._loaded = None
        if is_worker() and self._passes:  # a persistent worker, whose copy set_epoch does not reach
            self._epoch += 1
        self._passes += 1
        return self._read(reader, self._position)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; with `shuffle_seed` each epoch has its own order.

        It reaches the workers of a DataLoader that starts new workers for each epoch. Persistent workers
        (`persistent_workers`) count up from their first epoch. Errors: ReadingError if `epoch` is negative.
        """
        if epoch < 0:
            raise ReadingError(f"epoch is {epoch}; give 0 or more")
        if epoch != self._epoch:
            self._epoch, self._loaded = epoch, None

    def state_dict(self) -> dict[str, Any]:
        """Return the latest iteration's position as plain values, for a reader of the same rank and worker."""
        return self._identify() | {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state: the next iteration begins after the state's last sample.

        Errors: ReadingError for the state of another version, split, filter, order or number of readers.
        """
        # The state must match this dataset and reader, and its position must exist.
        for name, ours in self._identify().items():
            if state.get(name) != ours:
                raise _foreign(name, state.get(name), ours)
        epoch, position = (_whole_number(state, name) for name in ("epoch", "position"))
        reader = find_reader(self._options.rank, self._options.world_size)
        length = len(reader.run(int(self._index.counts.sum()), self._options.batch_size))
        if position > length:
            raise ReadingError(
                f"the state's position is {position}, and this reader has {count_of(length, 'sample')}; begin the "
                "epoch anew"
            )
        self._epoch, self._position, self._loaded = epoch, position, reader

    def webdataset(self, shuffle_seed: int | None = None) -> Any:
        """Return a `webdataset` pipeline over the same shards. With torch installed it is an IterableDataset.

        Nodes and DataLoader workers get separate shards. With `shuffle_seed` the order of the shards is random and
        changes in each epoch. Samples are dicts of bytes by field with `__key__`, for `.shuffle(...)`,
        `.map(decode_sample)` or `.decode(...)`. webdataset's "pil" decoder would turn masks into RGB. Errors:
        ReadingError if the dataset was opened with `where`.
        """
        import webdataset as wds
        from webdataset.tariterators import group_by_keys, tar_file_expander

        if self._index.rows is not None:
            raise ReadingError("webdataset reads whole shards, so it knows no where=; iterate over the dataset itself")

        shuffle = [] if shuffle_seed is None else [wds.detshuffle(len(self.shards), seed=shuffle_seed)]
        stages = [*shuffle, wds.split_by_node, wds.split_by_worker, open_shards, tar_file_expander, group_by_keys]
        return wds.FluidWrapper(wds.SimpleShardList(list(self.shards))).compose(*stages)

    def _read(self, reader: Reader, start: int) -> Iterator[dict[str, Any]]:
        """Yield the samples of a reader's run, from number `start` in the order of reading."""
        given, shards = self._draw_order(reader.run(int(self._index.counts.sum()), self._options.batch_size))
        waiting: dict[int, tuple[str, str, Sample]] = {}
        rest = given[start:]
        options = self._options
        stream = read_samples(self._index, np.sort(rest), shards, cache=options.cache, verify=options.verify)

        # Read in ascending order; samples that arrive early wait for their turn.
        with closing(stream):
            for position in rest.tolist():
                while position not in waiting:
                    found, origin, key, sample = next(stream)
                    waiting[found] = (origin, key, sample)
                decoded = self._decode(*waiting.pop(position))
                self._position += 1
                yield decoded

    def _draw_order(self, run: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (positions of a run in reading order, order of the shards)."""
        seed, shards = self._options.shuffle_seed, len(self._index.shards)
        if seed is None:
            return np.arange(run.start, run.stop), np.arange(shards)
        given = draw_samples(run, self._options.shuffle_buffer, seed, self._epoch)
        return given, draw_shards(shards, seed, self._epoch)

    def _decode(self, origin: str, key: str, members: Sample) -> dict[str, Any]:
        """Decode and check a sample of the shard `origin`. Errors: VerificationError."""
        try:
            decoded = decode_sample({"__key__": key, **members}, decode=self._options.decode)
            if not 0 <= decoded["cls"] < len(self.classes):
                raise ValueError(f"its class is {decoded['cls']}, and there are {len(self.classes)}")
        except (KeyError, ValueError, PictureError) as error:
            raise VerificationError(
                f"{origin}: sample {key} cannot be decoded: {describe_damage(error)}; {AGAIN}"
            ) from error
        return decoded

    def _identify(self) -> dict[str, Any]:
        """Return the facts that a state must share with the dataset that continues from it."""
        index, options = self._index, self._options
        shuffled = options.shuffle_seed is not None
        reader = find_reader(options.rank, options.world_size)
        run = reader.run(int(index.counts.sum()), options.batch_size)

        return {
            "format": STATE_FORMAT,
            "dataset": index.name,
            "version": index.version,
            "manifest": index.manifest,
            "split": index.split,
            "where": index.selection,
            "shuffle_seed": options.shuffle_seed,
            "shuffle_buffer": options.shuffle_buffer if shuffled else None,
            "reader": asdict(reader),
            "run": [run.start, run.stop] if reader.workers > 1 else None,  # older states have no run
        }


def _foreign(name: str, theirs: Any, ours: Any) -> ReadingError:
    """Return the error for a state of another reader."""
    return ReadingError(
        f"the state belongs to another reader: its {name} is {theirs!r}, here it is {ours!r}; open the dataset with "
        "the same arguments and as many ranks and workers, or begin the epoch anew"
    )


def _whole_number(state: Mapping[str, Any], name: str) -> int:
    """Return a whole number of 0 or more from a state. Errors: ReadingError for other values."""
    value = state.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ReadingError(f"the state's {name} is {value!r:.80}; give what state_dict returned")
    return value


def open_shards(sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each source with its {"url"} opened by fsspec as "stream": a stage of a webdataset pipeline."""
    for source in sources:
        with fsspec.open(source["url"], "rb") as stream:
            yield {**source, "stream": stream}


def decode_sample(sample: Mapping[str, Any], *, decode: bool = True) -> dict[str, Any]:
    """Return the sample of a `ShardedDataset` from webdataset's bytes by field.

    `decode`: False keeps image and mask as bytes. Errors: KeyError for a missing field; PictureError or ValueError for
    a field that cannot be decoded.
    """
    kind = "png" if "png" in sample else "jpg"
    image, mask = sample[kind], sample["seg.png"]
    decoded = {
        "key": sample["__key__"],
        "image": open_picture(image, PUBLISHED[kind], to_rgb) if decode else image,
        "mask": open_picture(mask, PNG, to_mask) if decode else mask,
        "caption": sample["txt"].decode(),
        "cls": int(sample["cls"]),
        "json": parse_object(sample["json"]),
    }

    for field, name in (("attn.npy", "attention"), ("noise.npy", "noise")):
        if field in sample:
            decoded[name] = read_array(sample[field])
    return decoded
