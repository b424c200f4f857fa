"""One process keeps the models it has loaded: a worker renders many partitions with one set of weights."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar, cast

CAPACITY = 5  # generator, its guide, annotator, scorer and verifier of one build

T = TypeVar("T")

_lock = Lock()
_loaded: OrderedDict[Hashable, Any] = OrderedDict()


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
        _loaded.move_to_end(key)
        return cast(T, _loaded[key])


def forget_all() -> None:
    """Drop every kept model, so that its memory can be returned."""
    with _lock:
        _loaded.clear()
