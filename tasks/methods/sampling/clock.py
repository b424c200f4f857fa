"""Seconds by phase of one piece of work. They go into receipts, never into tables."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tailforge.schemas import under_way

SHOWN = {"load": "loading models", "wait": "waiting for its turn"}  # phases that a person should know of
IDLE = ("load", "wait")  # phases that are no work of a stage: loading models, waiting until one is free


class Clock:
    """Adds up how long each named phase took; phases do not nest."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside the block, also when it raises."""
        started = time.perf_counter()
        try:
            with under_way.phase(SHOWN.get(name, "")):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @property
    def idle(self) -> dict[str, float]:
        """Seconds of the phases that are no work."""
        return {name: self.seconds[name] for name in IDLE if name in self.seconds}
