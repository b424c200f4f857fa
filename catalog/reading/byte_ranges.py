"""Reading parts of a file in few requests: neighbours together, and no more than needed."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from tailforge.catalog.store import Store

MAX_GAP = 64 * 1024  # bytes between two parts that are worth reading over: a request costs as much
MAX_WASTE = 0.5  # of what is asked for: gaps never make a request more than half as large again
WINDOW = 8 * 2**20  # bytes read at a time, unless a single part is larger

Read = Callable[[Sequence[tuple[int, int]]], list[bytes]]  # bytes of each [start, stop); shorter at the file's end


@dataclass
class Request:
    """Bytes [start, stop), which hold the parts `first` to `last`, and how many of these bytes were asked for."""

    start: int
    stop: int
    first: int
    last: int
    wanted: int

    def takes(self, start: int, stop: int) -> bool:
        """Whether [start, stop) is near enough to be read along."""
        gap, size = start - self.stop, stop - start
        waste = start - self.start - self.wanted
        return gap <= MAX_GAP and waste <= MAX_WASTE * (self.wanted + size) and stop - self.start <= WINDOW


def plan_requests(parts: Sequence[tuple[int, int]]) -> list[Request]:
    """Requests that hold all parts, [start, stop) in ascending order without overlap."""
    requests: list[Request] = []
    for number, (start, stop) in enumerate(parts):
        if requests and requests[-1].takes(start, stop):
            last = requests[-1]
            last.stop, last.last, last.wanted = stop, number, last.wanted + stop - start
        else:
            requests.append(Request(start, stop, number, number, stop - start))
    return requests


def read_requests(read: Read, requests: Sequence[Request]) -> Iterator[tuple[Request, bytes]]:
    """The requests and what they hold, about `WINDOW` bytes at a time."""
    batch: list[Request] = []
    for request in requests:
        if batch and sum(each.stop - each.start for each in batch) + request.stop - request.start > WINDOW:
            yield from zip(batch, read([(each.start, each.stop) for each in batch]), strict=True)
            batch = []
        batch.append(request)
    yield from zip(batch, read([(each.start, each.stop) for each in batch]), strict=True)


def read_file(file: IO[bytes]) -> Read:
    """Ranges of an open file."""

    def read(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        size, found = file.seek(0, os.SEEK_END), []
        for start, stop in ranges:  # no room is made for what lies behind the end, whatever a manifest claims
            file.seek(min(start, size))
            found.append(file.read(max(0, min(stop, size) - start)))
        return found

    return read


def read_remote(store: Store, path: str) -> Read:
    """Ranges of a file of a store, which stores that can do so fetch at the same time."""

    def read(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return store.read_ranges(path, ranges)

    return read
