"""Who reads which samples of an epoch, and in which order: arithmetic on positions, equal on every machine.

An epoch lays the shards one after another, in their published order or a drawn one, and numbers the samples from 0:
their positions. A reader has one run of neighbouring positions, so the split is as even as it can be whatever the
number of shards, and a reader touches few shards. Numbers are drawn from raw bits of PCG64, whose stream numpy keeps
from version to version (NEP 19), and not through Generator, whose methods may change.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.errors import ReadingError

GRAINS, LARGEST_GRAIN = 4, 1024  # that a worker gets at least; samples
SHARDS, SAMPLES = 0, 1  # what random numbers are for: each use has its own stream


@dataclass(frozen=True)
class Reader:
    """One of all readers of an epoch: a worker process of a rank, or the rank itself where it has no workers."""

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    workers: int = 1

    def run(self, samples: int, batch: int | None = None) -> range:
        """Positions that it reads. Ranks differ by one sample at most, the workers of a rank by one grain and the rest.

        Workers are dealt grains of `batch` samples, so that in batches of that many the last worker alone has a smaller
        one: then as many batches come from all of them as one reader would make. See `choose_grain`.
        """
        part = _cut(range(samples), self.rank, self.world_size)
        grain = batch or choose_grain(len(part), self.workers)
        grains = _cut(range(-(-len(part) // grain)), self.worker, self.workers)
        return part[grains.start * grain : grains.stop * grain]


def choose_grain(samples: int, workers: int) -> int:
    """The largest power of two of which each worker gets four or more, `LARGEST_GRAIN` at most; 1 where none does.

    A dataset is not told how large a loader's batches are. Most sizes are powers of two, and every one up to the grain
    divides it. Four grains a worker keep the longest run within a quarter of the even share.
    """
    share = min(samples // (GRAINS * workers), LARGEST_GRAIN)
    return 1 << max(0, share.bit_length() - 1)


def _cut(run: range, part: int, parts: int) -> range:
    return run[len(run) * part // parts : len(run) * (part + 1) // parts]


def check_rank(rank: int | None, world_size: int | None) -> None:
    """Errors: ReadingError unless both are given or neither, and the rank is one of the world's."""
    if (rank is None) != (world_size is None):
        raise ReadingError(f"rank is {rank}, world_size {world_size}; give both, or neither to ask torch.distributed")
    if rank is not None and world_size is not None and not 0 <= rank < world_size:
        raise ReadingError(f"rank is {rank}; with world_size {world_size} give 0 to {world_size - 1}")


def find_reader(rank: int | None, world_size: int | None) -> Reader:
    """This process: the rank as given, else as torch.distributed says, and the DataLoader's worker that it is.

    torch is asked only where something else has imported it; without it nobody can have started either.
    """
    if rank is None or world_size is None:
        rank, world_size = find_rank() or (0, 1)
    worker = _worker_info()
    return Reader(rank, world_size, worker.id, worker.num_workers) if worker else Reader(rank, world_size)


def is_worker() -> bool:
    """Whether this process is a worker of a DataLoader."""
    return _worker_info() is not None


def _worker_info() -> Any:
    data = sys.modules.get("torch.utils.data")
    return data.get_worker_info() if data else None


def find_rank() -> tuple[int, int] | None:
    """(rank, world size) where torch.distributed is initialised."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def draw_shards(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of the shards."""
    return np.argsort(_stream(seed, epoch, SHARDS).random_raw(count), kind="stable")


def draw_samples(run: range, buffer: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The positions of a run, shuffled within a distance of `buffer`.

    Position p gets the key p + buffer * u, u uniform in [0, 1), and keys are sorted. Whoever reads positions in order
    and gives them out in this one holds `buffer` samples at most: those that wait when key k is given out have
    positions in (k - buffer, k]. Unlike a buffer from which random samples are taken, nothing waits without bound, and
    the order is known without reading, which makes resuming exact. Our own choice.
    """
    bits = _stream(seed, epoch, SAMPLES).advance(run.start).random_raw(len(run))
    keys = np.arange(len(run)) + buffer * ((bits >> np.uint64(11)) * 2.0**-53)
    return run.start + np.argsort(keys, kind="stable")


def _stream(seed: int, epoch: int, use: int) -> np.random.PCG64:
    return np.random.PCG64(np.random.SeedSequence([seed, epoch, use]))
