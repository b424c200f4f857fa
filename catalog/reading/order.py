"""Divide the samples of an epoch among readers and order them, in the same way on every machine.

An epoch has the shards in their published order or in a random one, and numbers the samples from 0: their positions.
Each reader has one run of neighbouring positions. So the division is as even as possible for any number of shards, and
a reader needs few shards. Random numbers come from the raw bits of PCG64, which numpy keeps stable between versions
(NEP 19). The methods of its Generator may change.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.errors import ReadingError

GRAINS = 4  # fewest grains per worker
LARGEST_GRAIN = 1024  # samples
SHARDS, SAMPLES = 0, 1  # uses of random numbers, each with its own stream


@dataclass(frozen=True)
class Reader:
    """One reader of an epoch: a worker process of a rank, or the rank itself if it has no workers."""

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    workers: int = 1

    def run(self, samples: int, batch: int | None = None) -> range:
        """Return the reader's positions among `samples`.

        Ranks differ by one sample at most. Workers of a rank get whole grains of `batch` samples, by default as
        `choose_grain` says. So only the last worker has a smaller batch, and all workers together make as many batches
        as one reader would.
        """
        part = _cut(range(samples), self.rank, self.world_size)
        grain = batch or choose_grain(len(part), self.workers)
        grains = _cut(range(-(-len(part) // grain)), self.worker, self.workers)
        return part[grains.start * grain : grains.stop * grain]


def choose_grain(samples: int, workers: int) -> int:
    """Return the largest power of two with four or more grains per worker, at most LARGEST_GRAIN and at least 1.

    A dataset does not know the batch size of its loader. Most batch sizes are powers of two, and those up to the grain
    divide it. With four grains per worker the longest run is at most a quarter above the even share.
    """
    share = min(samples // (GRAINS * workers), LARGEST_GRAIN)
    return 1 << max(0, share.bit_length() - 1)


def _cut(run: range, part: int, parts: int) -> range:
    """Return one of `parts` equal parts of a run."""
    return run[len(run) * part // parts : len(run) * (part + 1) // parts]


def check_rank(rank: int | None, world_size: int | None) -> None:
    """Check that both or neither are given, and that the rank is below the world size. Errors: ReadingError."""
    if (rank is None) != (world_size is None):
        raise ReadingError(f"rank is {rank}, world_size {world_size}; give both, or neither to ask torch.distributed")
    if rank is not None and world_size is not None and not 0 <= rank < world_size:
        raise ReadingError(f"rank is {rank}; with world_size {world_size} give 0 to {world_size - 1}")


def find_reader(rank: int | None, world_size: int | None) -> Reader:
    """Return this process's reader: the given rank or that of torch.distributed, and the DataLoader's worker.

    The function does not import torch: a process that has not imported it has neither ranks nor workers.
    """
    if rank is None or world_size is None:
        rank, world_size = find_rank() or (0, 1)
    worker = _worker_info()
    return Reader(rank, world_size, worker.id, worker.num_workers) if worker else Reader(rank, world_size)


def is_worker() -> bool:
    """Return whether this process is a worker of a DataLoader."""
    return _worker_info() is not None


def _worker_info() -> Any:
    """Return torch's description of this worker, or None outside a worker."""
    data = sys.modules.get("torch.utils.data")
    return data.get_worker_info() if data else None


def find_rank() -> tuple[int, int] | None:
    """Return (rank, world size) of torch.distributed, or None if it is not initialised."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def draw_shards(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return a random permutation of `count` shards, int64 [count]."""
    return np.argsort(_stream(seed, epoch, SHARDS).random_raw(count), kind="stable")


def draw_samples(run: range, buffer: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the positions of a run, shuffled within a distance of `buffer`, int64 [len(run)].

    Position p gets the key p + buffer * u with u uniform in [0, 1), and the keys are sorted. A reader reads in
    ascending order and yields in this order, so it holds at most `buffer` samples. When it yields key k, the waiting
    positions are in (k - buffer, k]. No sample waits without bound, unlike in a buffer with random removal. The
    order is known without reading, so resuming is exact. Tailforge chose this method.
    """
    # Each position has its own random number, independent of the run.
    bits = _stream(seed, epoch, SAMPLES).advance(run.start).random_raw(len(run))
    keys = np.arange(len(run)) + buffer * ((bits >> np.uint64(11)) * 2.0**-53)
    return run.start + np.argsort(keys, kind="stable")


def _stream(seed: int, epoch: int, use: int) -> np.random.PCG64:
    """Return the random bits of one use in one epoch."""
    return np.random.PCG64(np.random.SeedSequence([seed, epoch, use]))
