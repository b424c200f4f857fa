"""Print a line during long silences of a command: its current work, progress and duration."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tailforge.flows.terminal.stopping import READER_WENT, stop
from tailforge.schemas.documents.shown import visible
from tailforge.schemas.under_way import list_pieces, working

SILENCE_S = 25.0  # longest silence
LISTED = 3
_last_said = time.monotonic()
_elsewhere: list[Callable[[], list[str]]] = []


def say(line: str) -> None:
    """Write one line to standard error at once. The command ends if the reader is gone (`| head`)."""
    global _last_said
    _last_said = time.monotonic()
    try:
        sys.stderr.write(f"{visible(line)}\n")  # one call per line, since several threads write
        sys.stderr.flush()
    except BrokenPipeError:
        stop(READER_WENT, "")


@contextmanager
def break_silence(command: str) -> Iterator[None]:
    """Print a line during a command whenever it was silent for `SILENCE_S`. A terminal shows bars instead."""
    global _last_said
    if sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    _last_said = time.monotonic()  # the silence starts now

    def beat() -> None:
        """Print the current work after each silence until the command ends."""
        while not ended.wait(max(0.1, _last_said + SILENCE_S - time.monotonic())):
            if time.monotonic() - _last_said >= SILENCE_S:
                for line in describe_work(command):
                    say(f"at work on {line}")

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        with working(command):
            yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def work_elsewhere(describe: Callable[[], list[str]]) -> Iterator[None]:
    """Register `describe`, which lists the work of other processes, for the time of a with block."""
    _elsewhere.append(describe)
    try:
        yield
    finally:
        _elsewhere.remove(describe)


def describe_work(command: str) -> list[str]:
    """Return one line per piece of work, active ones first: at most `LISTED`, then the number of further ones.

    Without known parts, the line describes the command as a whole.
    """
    pieces = sorted(list_pieces(), key=lambda piece: piece.phase)
    parts = [piece.describe() for piece in pieces if piece.what != command]
    lines = parts or [line for describe in _elsewhere for line in describe()] or [each.describe() for each in pieces]
    more = len(lines) - LISTED
    return [*lines[:LISTED], *([f"{more} more"] if more > 0 else [])]
