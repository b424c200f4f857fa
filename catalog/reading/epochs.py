"""Iterate over epochs of samples: division among ranks and workers, epochs, and exact resuming."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from tailforge.catalog.reading.batches import register_collate
from tailforge.catalog.reading.order import Reader, check_rank, find_rank, find_reader, is_worker
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ReadingError


@dataclass(frozen=True)
class Sharing:
    """How readers divide an epoch: `rank` of `world_size` processes, or that of torch.distributed.

    `batch_size`: samples per batch of a DataLoader with workers; None for unknown. Errors: ReadingError.
    """

    rank: int | None = None
    world_size: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_rank(self.rank, self.world_size)
        if self.batch_size is not None and self.batch_size < 1:
            raise ReadingError(f"batch_size is {self.batch_size}; give 1 or more, or leave it out")

    def find_reader(self) -> Reader:
        """Return this process's reader."""
        return find_reader(self.rank, self.world_size)


class EpochDataset(ABC):
    """An epoch of `samples` samples, of which each reader iterates over its own part. It is sized and picklable."""

    def __init__(self, samples: int, sharing: Sharing) -> None:
        self._samples, self._sharing = samples, sharing
        self._epoch, self._position = 0, 0
        self._loaded: Reader | None = None  # reader of a loaded state, until the next iteration
        self._passes = 0
        if torch_data := sys.modules.get("torch.utils.data"):
            # DataLoader recognises iterable datasets by class; register avoids importing torch to inherit from it.
            torch_data.IterableDataset.register(EpochDataset)

    @abstractmethod
    def _describe(self) -> dict[str, Any]:
        """Return the facts, as plain values, that decide which samples an epoch has in which order."""

    @abstractmethod
    def _read(self, run: range, start: int) -> Iterator[dict[str, Any]]:
        """Return an iterator over a reader's run of the epoch, from number `start` of the run in reading order."""

    def __len__(self) -> int:
        reader = self._sharing.find_reader()
        return len(Reader(reader.rank, reader.world_size).run(self._samples))

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Raise TypeError. A DataLoader calls this if torch was imported after the dataset was opened."""
        raise TypeError(
            "samples are read in order, not by number; for a DataLoader import torch before open_dataset, and for "
            "reading by number call open_dataset_map"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the rank, since torch.distributed is not initialised in a spawned worker process."""
        return {**vars(self), "_found": find_rank() if self._sharing.rank is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        found = state.pop("_found")
        vars(self).update(state)
        if found is not None:
            self._sharing = replace(self._sharing, rank=found[0], world_size=found[1])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over this reader's samples of the epoch.

        Errors: ReadingError after loading the state of another reader; VerificationError at a damaged sample.
        """
        reader = self._sharing.find_reader()
        if self._loaded is None:
            self._position = 0
        elif self._loaded != reader:
            raise _foreign("reader", asdict(self._loaded), asdict(reader))
        self._loaded = None
        if is_worker() and self._passes:  # a persistent worker, whose copy set_epoch does not reach
            self._epoch += 1
        self._passes += 1
        register_collate()
        return self._count(self._read(self._run(reader), self._position))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; each epoch of a shuffled dataset has its own order.

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

        Errors: ReadingError for the state of another dataset, order or number of readers.
        """
        # The state must match this dataset and reader, and its position must exist.
        if not isinstance(state, Mapping):
            raise ReadingError(f"the state is {state!r:.80}; give what state_dict returned")
        for name, ours in self._identify().items():
            if state.get(name) != ours:
                raise _foreign(name, state.get(name), ours)
        epoch, position = (_whole_number(state, name) for name in ("epoch", "position"))
        reader = self._sharing.find_reader()
        length = len(self._run(reader))
        if position > length:
            raise ReadingError(
                f"the state's position is {position}, and this reader has {count_of(length, 'sample')}; begin the "
                "epoch anew"
            )
        self._epoch, self._position, self._loaded = epoch, position, reader

    def _run(self, reader: Reader) -> range:
        """Return the positions of a reader."""
        return reader.run(self._samples, self._sharing.batch_size)

    def _count(self, samples: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield samples and count the position on."""
        with closing(samples):  # type: ignore[type-var]
            for sample in samples:
                self._position += 1
                yield sample

    def _identify(self) -> dict[str, Any]:
        """Return the facts that a state must share with the dataset that continues from it."""
        reader = self._sharing.find_reader()
        run = self._run(reader)
        return self._describe() | {
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
