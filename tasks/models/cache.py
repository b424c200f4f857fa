"""Keep loaded models in the process, so that a worker renders many partitions with one set of weights."""

import os
import platform
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar, cast

CAPACITY = 5  # generator, its guide, annotator, scorer and verifier of one build

T = TypeVar("T")

_lock = Lock()
_loaded: OrderedDict[Hashable, Any] = OrderedDict()
_loads: Counter[Hashable] = Counter()


def load_once(key: Hashable, load: Callable[[], T]) -> T:
    """Return the result of `load` for this key, from memory if the key is among the `CAPACITY` last used ones.

    A load that raises stores nothing. `load` must not call `load_once`. Errors: those of `load`.
    """
    # The lock is held during a load, so that two threads cannot load one model twice.
    with _lock:
        if key not in _loaded:
            while len(_loaded) >= CAPACITY:
                _loaded.popitem(last=False)
            _loaded[key] = load()
            _loads[key] += 1
        _loaded.move_to_end(key)
        return cast(T, _loaded[key])


def describe_worker() -> dict[str, str | int]:
    """Return the host, the process and the most loads of one model, above 1 only if `CAPACITY` was exceeded."""
    with _lock:
        return {"host": platform.node(), "process": os.getpid(), "most_loads": max(_loads.values(), default=0)}
