"""Read parts of a file in few requests. Neighbouring parts share a request with little waste."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from tailforge.catalog.store import Store

MAX_GAP = 64 * 1024  # bytes between two parts that cost less than another request
MAX_WASTE = 0.5  # most bytes of gaps in a request, relative to its requested bytes
WINDOW = 8 * 2**20  # most bytes read at a time; a single part may be larger

Read = Callable[[Sequence[tuple[int, int]]], list[bytes]]  # returns bytes [start, stop) of each range, fewer at the end


@dataclass
class Request:
    """A request of bytes [start, stop) for the parts `first` to `last`. `wanted`: bytes without gaps."""

    start: int
    stop: int
    first: int
    last: int
    wanted: int

    def takes(self, start: int, stop: int) -> bool:
        """Return whether the request may include bytes [start, stop): a small gap, little waste, and a small total."""
        gap, size = start - self.stop, stop - start
        waste = start - self.start - self.wanted
        return gap <= MAX_GAP and waste <= MAX_WASTE * (self.wanted + size) and stop - self.start <= WINDOW


def plan_requests(parts: Sequence[tuple[int, int]]) -> list[Request]:
    """Return requests for all parts [start, stop), which must be in ascending order without overlap."""
    requests: list[Request] = []
    for number, (start, stop) in enumerate(parts):
        if requests and requests[-1].takes(start, stop):
            last = requests[-1]
            last.stop, last.last, last.wanted = stop, number, last.wanted + stop - start
        else:
            requests.append(Request(start, stop, number, number, stop - start))
    return requests


def read_requests(read: Read, requests: Sequence[Request]) -> Iterator[tuple[Request, bytes]]:
    """Yield the requests with their bytes, about WINDOW bytes at a time."""
    batch: list[Request] = []
    for request in requests:
        if batch and sum(each.stop - each.start for each in batch) + request.stop - request.start > WINDOW:
            yield from zip(batch, read([(each.start, each.stop) for each in batch]), strict=True)
            batch = []
        batch.append(request)
    yield from zip(batch, read([(each.start, each.stop) for each in batch]), strict=True)


def read_file(file: IO[bytes]) -> Read:
    """Return a function that reads ranges of an open file."""

    def read(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range."""
        size, found = file.seek(0, os.SEEK_END), []
        for start, stop in ranges:  # allocate nothing beyond the end, which a false manifest may request
            file.seek(min(start, size))
            found.append(file.read(max(0, min(stop, size) - start)))
        return found

    return read


def read_remote(store: Store, path: str) -> Read:
    """Return a function that reads ranges of a store's file, in parallel if the store supports it."""

    def read(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range."""
        return store.read_ranges(path, ranges)

    return read
