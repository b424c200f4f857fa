"""The current work of this process and its progress, for the line that breaks a long silence.

Each thread has its own piece of work. Loops report progress, and nothing depends on it.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Watch = Callable[[int, float], None]  # step that is done, its loss

T = TypeVar("T")


@dataclass
class Piece:
    """A piece of work.

    `what`: its name. `since`: its start, in seconds of the monotonic clock. `counts`: (done, total) by counted thing.
    """

    what: str
    since: float = field(default_factory=time.monotonic)
    phase: str = ""
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def describe(self) -> str:
        """Return one line about the work, its progress and its time, without a line break."""
        steps = [f"{name} {done} of {of}" for name, (done, of) in list(self.counts.items())]
        parts = [*steps, self.phase, f"for {time.monotonic() - self.since:.0f} s"]
        return f"{self.what}: " + ", ".join(part for part in parts if part)


_pieces: dict[int, Piece] = {}  # by thread


@contextmanager
def working(what: str) -> Iterator[None]:
    """Record work of this thread inside the context."""
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
    """Record progress of this thread's work: `done` of `of` counted things, such as steps."""
    if (piece := _pieces.get(threading.get_ident())) is not None:
        piece.counts[counted] = (done, of)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Record a phase of this thread's work inside the context."""
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
    """Yield the rows and record each at its start as progress; `of`: the total, or a collection of that size."""
    total = of if isinstance(of, int) else len(of)
    for number, row in enumerate(rows, 1):
        tell(counted, number, total)
        yield row


def list_pieces() -> list[Piece]:
    """Return all current pieces of work, the oldest first."""
    return sorted(_pieces.values(), key=lambda piece: piece.since)
