"""Reading a published version in a training job: no torch, no Prefect, a folder or a store of objects."""

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
WHOLE: dict[str, Any] = {"rank": 0, "world_size": 1}  # for code that reads a whole split, whatever process it is in


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
    """A split of a published version.

    `uri` is `<store>/datasets/<name>`, its folder of a version, or the store where `name` is given: a path, relative to
    the current folder, or an address such as s3://bucket/store/datasets/NAME. `split` val means validation.

    - `decode` False: images and masks stay the bytes of their files.
    - `where`: only samples for which an expression over the manifest's columns holds, `pc.field("sharpness") > 100`.
    - `shuffle_seed`: another order in every epoch (`set_epoch`): the shards, and samples within `shuffle_buffer`, which
      is what a reader holds in memory.
    - `rank`, `world_size`: whose part is read. Without them torch.distributed is asked, where it is initialised.
    - `batch_size`: that of a DataLoader with workers, so that `len(loader)` is the number of batches that come. Without
      it that holds for powers of two, up to a quarter of a worker's share and 1024.
    - `cache`: a local folder in which at most `cache_bytes` of whole shards are kept.
    - `verify`: compare the sha256 of every member with the manifest.

    Errors: NotFoundError for a dataset, version, split or column that does not exist; ReadingError for what cannot be
    asked for.
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
    """(address of the store, name, version) of what `open_dataset` was given. Errors: NotFoundError, ReadingError."""
    given = os.fspath(uri)
    address = given.rstrip("/") if is_address(given) else str(local_path(given))
    if name is not None:
        return address, name, version
    root, _, rest = address.rpartition(f"/{DATASETS}/")
    name, _, named = rest.partition("/")
    if not root or not name or (named and not VERSION.fullmatch(named)):
        raise NotFoundError(f"{given!r} is no dataset; give <store>/{DATASETS}/<name>, or the store and name=")
    if named and version not in ("latest", named):
        raise ReadingError(f"{given!r} is version {named}, and version {version!r} is asked for; leave one of them out")
    return root, name, named or version


def _cache_folder(cache: str | os.PathLike[str]) -> Path:
    if is_address(os.fspath(cache)):
        raise ReadingError(f"cache {os.fspath(cache)!r} is no folder of this machine; give a local one")
    return local_path(cache)


@dataclass(frozen=True)
class Options:
    """How a split is read; `open_dataset` says what each means."""

    decode: bool
    shuffle_seed: int | None
    shuffle_buffer: int
    rank: int | None
    world_size: int | None
    batch_size: int | None
    cache: ShardCache | None
    verify: bool


class ShardedDataset:
    """Samples of one split, in their published order or shuffled: iterable any number of times, sized, picklable.

    A sample is a dict: `key`, `image` (PIL, RGB), `mask` (PIL, palette: 0 background, a category, 255 ignore),
    `caption`, `cls` (int), `json` (dict), and `attention` and `noise` (float16 arrays) where shipped.
    `classes` names the classes by number, `categories` what the values of masks mean, value 1 first: the classes, then
    what else is masked. `shards` are the addresses of the tars.

    A torch DataLoader takes it as an IterableDataset. Ranks and workers each read their part of an epoch, all parts
    together every sample once; the length is that of the rank's part. What an iteration needs to go on elsewhere is
    in `state_dict`.
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
        self._loaded: Reader | None = None  # whose state was loaded and waits for the next iteration
        self._passes = 0
        if torch_data := sys.modules.get("torch.utils.data"):
            # DataLoader knows streams by their class; an abstract base class takes others in without being imported.
            torch_data.IterableDataset.register(ShardedDataset)

    def __repr__(self) -> str:
        index = self._index
        return f"<ShardedDataset {index.name}@{index.version}, split {index.split}, {count_of(len(self), 'sample')}>"

    def __len__(self) -> int:
        reader = find_reader(self._options.rank, self._options.world_size)
        return len(Reader(reader.rank, reader.world_size).run(int(self._index.counts.sum())))

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Errors: TypeError always. A DataLoader asks where torch was imported after the dataset was opened."""
        raise TypeError("samples are read in order, not by number; for a DataLoader import torch before open_dataset")

    def __getstate__(self) -> dict[str, Any]:
        """A worker process that is spawned knows nothing of torch.distributed, so the rank goes with the dataset."""
        return {**vars(self), "_found": find_rank() if self._options.rank is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        found = state.pop("_found")
        vars(self).update(state)
        if found is not None:
            self._options = replace(self._options, rank=found[0], world_size=found[1])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Errors: VerificationError for damage, when it is reached; ReadingError after a state of another reader."""
        reader = find_reader(self._options.rank, self._options.world_size)
        if self._loaded is None:
            self._position = 0
        elif self._loaded != reader:
            raise _foreign("reader", asdict(self._loaded), asdict(reader))
        self._loaded = None
        if is_worker() and self._passes:  # a worker that stays: set_epoch does not reach its copy
            self._epoch += 1
        self._passes += 1
        return self._read(reader, self._position)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is; with `shuffle_seed` each has its own order.

        It reaches the workers of a DataLoader that starts them anew for each epoch. Workers that stay
        (`persistent_workers`) count on from the epoch with which they began. Errors: ReadingError if it is negative.
        """
        if epoch < 0:
            raise ReadingError(f"epoch is {epoch}; give 0 or more")
        if epoch != self._epoch:
            self._epoch, self._loaded = epoch, None

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration that was begun last is; plain values. It belongs to this reader: this rank and worker."""
        return self._identify() | {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration begin with the sample after the last that the state has seen.

        Errors: ReadingError for the state of another version, split, filter, order or number of readers.
        """
        for what, ours in self._identify().items():
            if state.get(what) != ours:
                raise _foreign(what, state.get(what), ours)
        epoch, position = (_whole_number(state, name) for name in ("epoch", "position"))
        reader = find_reader(self._options.rank, self._options.world_size)
        length = len(reader.run(int(self._index.counts.sum()), self._options.batch_size))
        if position > length:
            raise ReadingError(
                f"the state's position is {position}, and this reader gives out {count_of(length, 'sample')}; begin "
                "the epoch anew"
            )
        self._epoch, self._position, self._loaded = epoch, position, reader

    def webdataset(self, shuffle_seed: int | None = None) -> Any:
        """The same shards as a `webdataset` pipeline, which is a torch IterableDataset where torch is installed.

        Shards are dealt out to nodes and to DataLoader workers, in an order drawn anew each epoch if `shuffle_seed`
        is given. Samples are dicts of bytes by field with `__key__`: go on with `.shuffle(...)`, `.map(decode_sample)`,
        `.decode(...)`. Mind that webdataset's own "pil" decoder turns masks into RGB.
        Errors: ReadingError if the dataset was opened with `where`.
        """
        import webdataset as wds
        from webdataset.tariterators import group_by_keys, tar_file_expander

        if self._index.rows is not None:
            raise ReadingError("webdataset reads whole shards, so it knows no where=; iterate over the dataset itself")
        shuffle = [] if shuffle_seed is None else [wds.detshuffle(len(self.shards), seed=shuffle_seed)]
        stages = [*shuffle, wds.split_by_node, wds.split_by_worker, open_shards, tar_file_expander, group_by_keys]
        return wds.FluidWrapper(wds.SimpleShardList(list(self.shards))).compose(*stages)

    def _read(self, reader: Reader, start: int) -> Iterator[dict[str, Any]]:
        """Samples of a reader's run from the `start`-th that it gives out."""
        given, shards = self._draw_order(reader.run(int(self._index.counts.sum()), self._options.batch_size))
        waiting: dict[int, tuple[str, str, Sample]] = {}
        rest = given[start:]
        options = self._options
        stream = read_samples(self._index, np.sort(rest), shards, cache=options.cache, verify=options.verify)
        with closing(stream):
            for position in rest.tolist():
                while position not in waiting:
                    found, origin, key, sample = next(stream)
                    waiting[found] = (origin, key, sample)
                decoded = self._decode(*waiting.pop(position))
                self._position += 1
                yield decoded

    def _draw_order(self, run: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(positions of a run in the order in which they are given out, order of the shards)."""
        seed, shards = self._options.shuffle_seed, len(self._index.shards)
        if seed is None:
            return np.arange(run.start, run.stop), np.arange(shards)
        given = draw_samples(run, self._options.shuffle_buffer, seed, self._epoch)
        return given, draw_shards(shards, seed, self._epoch)

    def _decode(self, origin: str, key: str, members: Sample) -> dict[str, Any]:
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
        """What a state must share with the dataset that goes on from it."""
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
            "run": [run.start, run.stop] if reader.workers > 1 else None,  # older states, of all samples, hold none
        }


def _foreign(what: str, theirs: Any, ours: Any) -> ReadingError:
    return ReadingError(
        f"the state belongs to another reader: its {what} is {theirs!r}, here it is {ours!r}; open the dataset as it "
        "was opened then, with as many ranks and workers, or begin the epoch anew"
    )


def _whole_number(state: Mapping[str, Any], name: str) -> int:
    """Errors: ReadingError unless the state holds a whole number of 0 or more there."""
    value = state.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ReadingError(f"the state's {name} is {value!r:.80}; give what state_dict returned")
    return value


def open_shards(sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Stage of a webdataset pipeline: opens every {"url"} through fsspec."""
    for source in sources:
        with fsspec.open(source["url"], "rb") as stream:
            yield {**source, "stream": stream}


def decode_sample(sample: Mapping[str, Any], *, decode: bool = True) -> dict[str, Any]:
    """Bytes by field, as webdataset gives them, to the sample that `ShardedDataset` describes.

    Errors: KeyError for a missing field; PictureError or ValueError for one that cannot be decoded.
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
