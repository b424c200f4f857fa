"""Measure how long the phases of a task take. Receipts hold these seconds; tables do not."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tailforge.schemas import under_way

SHOWN = {"load": "loading models", "wait": "waiting for its turn"}  # phases that the progress line shows
IDLE = ("load", "wait")  # phases without work of a stage: the task loads models or waits for a free one


class Clock:
    """Adds up the seconds of each named phase; phases do not nest."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside the block, even if the block raises."""
        # The progress line shows the phases of SHOWN; any other phase has an empty label there.
        started = time.perf_counter()
        try:
            with under_way.phase(SHOWN.get(name, "")):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @property
    def idle(self) -> dict[str, float]:
        """Return the seconds of the phases without work."""
        return {name: self.seconds[name] for name in IDLE if name in self.seconds}
