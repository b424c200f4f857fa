"""Read a published version in a training job, from a folder or an object store, without torch or Prefect."""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from tailforge.catalog.reading.cache import ShardCache
from tailforge.catalog.reading.decoding import Decoder
from tailforge.catalog.reading.epochs import EpochDataset, Sharing
from tailforge.catalog.reading.opening import CACHE_BYTES, OpenedSplit, open_cache, open_split
from tailforge.catalog.reading.order import draw_samples, draw_shards
from tailforge.catalog.reading.samples import Sample, read_samples
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ReadingError

STATE_FORMAT = "tailforge-reader/1"
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
    sharing = Sharing(rank, world_size, batch_size)
    if shuffle_buffer < 1 or (shuffle_seed is not None and shuffle_seed < 0):
        raise ReadingError(
            f"shuffle_seed is {shuffle_seed} and shuffle_buffer {shuffle_buffer}; give a seed of 0 or more and a "
            "buffer of 1 or more"
        )

    opened = open_split(uri, name, version, split, where)
    options = Options(decode, shuffle_seed, shuffle_buffer, open_cache(opened.index, cache, cache_bytes), verify)
    return ShardedDataset(opened, options, sharing)


@dataclass(frozen=True)
class Options:
    """Options of reading a split; `open_dataset` describes them."""

    decode: bool
    shuffle_seed: int | None
    shuffle_buffer: int
    cache: ShardCache | None
    verify: bool


class ShardedDataset(EpochDataset):
    """The samples of one split, in published or shuffled order. It is iterable many times, sized and picklable.

    A sample is a dict: `key`, `image` (PIL, RGB), `mask` (PIL, palette: 0 background, 1..254 category, 255 ignore),
    `caption`, `cls` (class, int), `json` (dict), and, if published, `attention` and `noise` (float16 arrays).
    `classes`: names by class. `categories`: names by value of the masks, from value 1: the classes, then other masked
    words. `shards`: addresses of the tars.

    A torch DataLoader accepts it as an IterableDataset. Ranks and workers read separate parts of an epoch, and all
    parts together hold every sample once. The length is that of the rank's part. `state_dict` and `load_state_dict`
    resume an iteration.
    """

    def __init__(self, opened: OpenedSplit, options: Options, sharing: Sharing) -> None:
        index, store = opened.index, opened.store
        super().__init__(index.samples, sharing)
        self.version, self.classes, self.categories = index.version, opened.dataset.classes, opened.categories
        self.shards = tuple(
            store.fs.unstrip_protocol(store.path(index.path(number))) for number in range(len(index.shards))
        )
        self._index, self._options = index, options
        self._decode = Decoder(len(self.classes), options.decode)

    def __repr__(self) -> str:
        index = self._index
        return f"<ShardedDataset {index.name}@{index.version}, split {index.split}, {count_of(len(self), 'sample')}>"

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

    def _describe(self) -> dict[str, Any]:
        """Return the facts that decide the samples of an epoch and their order."""
        index, options = self._index, self._options
        shuffled = options.shuffle_seed is not None
        return {
            "format": STATE_FORMAT,
            **index.identify(),
            "shuffle_seed": options.shuffle_seed,
            "shuffle_buffer": options.shuffle_buffer if shuffled else None,
        }

    def _read(self, run: range, start: int) -> Iterator[dict[str, Any]]:
        """Yield the samples of a reader's run, from number `start` in the order of reading."""
        given, shards = self._draw_order(run)
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
                yield self._decode(*waiting.pop(position))

    def _draw_order(self, run: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (positions of a run in reading order, order of the shards)."""
        seed, shards = self._options.shuffle_seed, len(self._index.shards)
        if seed is None:
            return np.arange(run.start, run.stop), np.arange(shards)
        given = draw_samples(run, self._options.shuffle_buffer, seed, self._epoch)
        return given, draw_shards(shards, seed, self._epoch)


def open_shards(sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each source with its {"url"} opened by fsspec as "stream": a stage of a webdataset pipeline."""
    for source in sources:
        with fsspec.open(source["url"], "rb") as stream:
            yield {**source, "stream": stream}
