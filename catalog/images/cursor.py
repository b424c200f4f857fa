"""Read single items of a source that is read in passes."""

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")
NEAR = 32  # items that are skipped rather than beginning a new pass; our choice


class Cursor(threading.local, Generic[Item]):
    """Items by their number, in passes over a source; items in rising order cost one pass.

    Each thread has passes of its own, since partitions of a build read the same photographs at the same time.
    `begin(row)` yields the items from that number on.
    """

    def __init__(self, begin: Callable[[int], Iterator[Item]]) -> None:
        self._begin = begin
        self._pass: Iterator[Item] = iter(())
        self._next = -NEAR  # number of the pass's next item
        self._last: tuple[int, Item] | None = None

    def read(self, row: int) -> Item:
        """Return one item. Errors: those of the source."""
        if self._last is not None and row == self._last[0]:
            return self._last[1]
        if not 0 <= row - self._next < NEAR:
            self._pass, self._next = self._begin(row), row
        item = next(islice(self._pass, row - self._next, None))
        self._next, self._last = row + 1, (row, item)
        return item
