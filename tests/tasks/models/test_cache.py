"""A model is loaded once, the least recently used one goes first, and a failed load leaves nothing."""

import threading
import time

import pytest

from tailforge.tasks.models.cache import CAPACITY, load_once
from tests.support.kept_models import forget_all


@pytest.fixture(autouse=True)
def _empty() -> None:
    forget_all()


def test_loaded_once_and_again_after_it_was_dropped() -> None:
    loads: list[int] = []

    def get(key: int) -> int:
        return load_once(key, lambda: loads.append(key) or key)  # type: ignore[func-returns-value]

    for key in range(CAPACITY):
        get(key)
    get(0)
    get(CAPACITY)  # drops 1, the least recently used
    assert [get(0), get(1)] == [0, 1]
    assert loads == [*range(CAPACITY + 1), 1]


def test_a_failed_load_is_tried_again() -> None:
    def fail() -> int:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        load_once("key", fail)
    assert load_once("key", lambda: 5) == 5


def test_threads_share_one_load() -> None:
    loads: list[int] = []

    def slow() -> object:
        loads.append(1)
        time.sleep(0.05)
        return object()

    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(load_once("model", slow))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(set(map(id, found))) == 1
