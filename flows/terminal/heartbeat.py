"""A line from time to time while a command says nothing else: what it works on, how far it is, and for how long."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tailforge.flows.terminal.stopping import READER_WENT, stop
from tailforge.schemas.documents.shown import visible
from tailforge.schemas.under_way import list_pieces, working

SILENCE_S = 25.0  # before a line is said
LISTED = 3
_last_said = time.monotonic()
_elsewhere: list[Callable[[], list[str]]] = []


def say(line: str) -> None:
    """One line on standard error, at once. Where nobody reads it any more (`| head`), the command ends."""
    global _last_said
    _last_said = time.monotonic()
    try:
        sys.stderr.write(f"{visible(line)}\n")  # at once, for several threads speak
        sys.stderr.flush()
    except BrokenPipeError:
        stop(READER_WENT, "")


@contextmanager
def break_silence(command: str) -> Iterator[None]:
    """While a command works: a line whenever nothing was said for `SILENCE_S`. A terminal has bars instead."""
    global _last_said
    if sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    _last_said = time.monotonic()  # the command has begun to keep silent

    def beat() -> None:
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
    """While other processes may work for this one: `describe` says on what, where nothing is worked on here."""
    _elsewhere.append(describe)
    try:
        yield
    finally:
        _elsewhere.remove(describe)


def describe_work(command: str) -> list[str]:
    """Up to `LISTED` pieces of work, a line each, those that are not waiting first; how many more there are.

    What is known of the command as a whole where nothing is known of its parts.
    """
    pieces = sorted(list_pieces(), key=lambda piece: piece.phase)
    parts = [piece.describe() for piece in pieces if piece.what != command]
    lines = parts or [line for describe in _elsewhere for line in describe()] or [each.describe() for each in pieces]
    more = len(lines) - LISTED
    return [*lines[:LISTED], *([f"{more} more"] if more > 0 else [])]
