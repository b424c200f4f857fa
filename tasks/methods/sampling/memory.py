"""Run a batch within the memory of the device: halve it if memory runs out."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")

_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")


def within_memory(run: Callable[[Sequence[S]], list[T]], batch: Sequence[S], give_up: Callable[[S], T]) -> list[T]:
    """Run a batch. If memory runs out, run its halves; `give_up` gives the outcome of a single sample too large."""
    try:
        return run(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler, where the traceback no longer holds the tensors that filled the memory.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

    # Halve the batch until a single sample is left.
    if len(batch) == 1:
        return [give_up(batch[0])]
    half = (len(batch) + 1) // 2
    return [row for part in (batch[:half], batch[half:]) for row in within_memory(run, part, give_up)]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether CUDA, cuDNN or the CPU allocator raised this because memory ran out."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in _MEMORY_WORDS)
