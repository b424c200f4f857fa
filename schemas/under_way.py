"""What this process is working on just now, and how far it is: for the line that a long silence is broken by.

A piece of work is of the thread that does it. Loops say how far they are; nothing depends on what they say.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Piece:
    """A piece of work: what it is, since when, its phase, and how far it is in what it counts, as (done, of all)."""

    what: str
    since: float = field(default_factory=time.monotonic)
    phase: str = ""
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def describe(self) -> str:
        """One line without its end."""
        steps = [f"{name} {done} of {of}" for name, (done, of) in list(self.counts.items())]
        parts = [*steps, self.phase, f"for {time.monotonic() - self.since:.0f} s"]
        return f"{self.what}: " + ", ".join(part for part in parts if part)


_pieces: dict[int, Piece] = {}  # by thread


@contextmanager
def working(what: str) -> Iterator[None]:
    """While this thread works on something."""
    thread = threading.get_ident()
    before = _pieces.get(thread)
    _pieces[thread] = Piece(what)
    try:
        yield
    finally:
        if before is None:
            del _pieces[thread]
        else:
            _pieces[thread] = before


def tell(counted: str, done: int, of: int) -> None:
    """Say how far the work of this thread is in something that it counts, such as its steps."""
    if (piece := _pieces.get(threading.get_ident())) is not None:
        piece.counts[counted] = (done, of)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """While the work of this thread is in a phase that a person should know of."""
    piece = _pieces.get(threading.get_ident())
    before = piece.phase if piece is not None else ""
    if piece is not None:
        piece.phase = name
    try:
        yield
    finally:
        if piece is not None:
            piece.phase = before


def count(rows: Iterable[T], counted: str, of: Sized | int) -> Iterator[T]:
    """The rows, each told of as it begins."""
    total = of if isinstance(of, int) else len(of)
    for number, row in enumerate(rows, 1):
        tell(counted, number, total)
        yield row


def list_pieces() -> list[Piece]:
    """What is worked on, what has begun first first."""
    return sorted(_pieces.values(), key=lambda piece: piece.since)
