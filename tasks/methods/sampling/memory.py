"""Run a batch within the memory of the device: run smaller parts if memory runs out, and remember their size."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch

S = TypeVar("S")
T = TypeVar("T")

_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")

# Most samples that fitted, by model and kind of work. A model is on one device for its lifetime.
_fitting: WeakKeyDictionary[object, dict[Hashable, int]] = WeakKeyDictionary()


def within_memory(
    run: Callable[[Sequence[S]], list[T]],
    batch: Sequence[S],
    give_up: Callable[[S], T],
    model: object,
    work: Hashable,
) -> list[T]:
    """Run a batch in order, in parts that fit into memory, and return the outcomes of its samples.

    A part that does not fit is halved. `work`: the kind of work with `model`, such as its name and the image size.
    Later batches of this work begin with the size that fitted. `give_up`: the outcome of a sample too large alone.
    """
    # The size is known from an earlier batch, or the whole batch is tried.
    known = _fitting.setdefault(model, {})
    outcomes: list[T] = []
    while len(outcomes) < len(batch):
        start, most = len(outcomes), known.get(work, len(batch))
        part = batch[start : start + most]
        if (made := _try_run(run, part)) is not None:
            outcomes += made
        elif len(part) == 1:
            outcomes.append(give_up(part[0]))
        else:
            # Halve, and try the same samples again.
            known[work] = (len(part) + 1) // 2
    return outcomes


def _try_run(run: Callable[[Sequence[S]], list[T]], part: Sequence[S]) -> list[T] | None:
    """Return the outcomes of a part, or None if memory ran out."""
    try:
        return run(part)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler, where the traceback no longer holds the tensors that filled the memory.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether CUDA, cuDNN or the CPU allocator raised this because memory ran out."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in _MEMORY_WORDS)
