"""One process keeps the models it has loaded: a worker renders many partitions with one set of weights."""

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
    """What `load` returned for this key, loaded at most once while it is among the `CAPACITY` last used keys.

    The lock is held during a load: two threads asking for one model must not hold its weights twice. A load that
    raises leaves nothing behind. `load` must not call `load_once` itself.
    """
    with _lock:
        if key not in _loaded:
            while len(_loaded) >= CAPACITY:
                _loaded.popitem(last=False)
            _loaded[key] = load()
            _loads[key] += 1
        _loaded.move_to_end(key)
        return cast(T, _loaded[key])


def describe_worker() -> dict[str, str | int]:
    """This process, and how often it loaded the model that it loaded most often: once, unless it had to make room."""
    with _lock:
        return {"host": platform.node(), "process": os.getpid(), "most_loads": max(_loads.values(), default=0)}
