"""Show the training of a classifier: a bar on a terminal, a plain line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from tailforge.catalog.images.left_out import HIDDEN, SYSTEM, LeftOut
from tailforge.flows.terminal.console import TextConsole, text_column
from tailforge.flows.terminal.heartbeat import say
from tailforge.schemas.under_way import Watch, working

LINE_EVERY_S = 10.0


def say_left_out(origin: str, left_out: LeftOut) -> None:
    """Write to standard error what was left out of images, except hidden files and files of operating systems."""
    worth_saying = left_out.without(HIDDEN, SYSTEM)
    if len(worth_saying):
        say(f"{origin}: {worth_saying.describe()}")


@contextmanager
def show_training(name: str, steps: int) -> Iterator[Watch]:
    """Yield a function that takes the number and loss of each finished step."""
    if sys.stderr.isatty():
        columns = (
            text_column("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )

        with Progress(
            *columns,
            TimeRemainingColumn(),
            text_column("{task.fields[note]}"),
            console=TextConsole(stderr=True),
        ) as bars:
            bar = bars.add_task(name, total=steps, note="")
            yield lambda step, loss: bars.update(bar, completed=step, note=f"loss {loss:.4f}")
    else:
        with working(name):
            yield _Lines(name, steps)


class _Lines:
    """One line every ten seconds, and one at the end."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps = name, steps
        self.said = time.monotonic()

    def __call__(self, step: int, loss: float) -> None:
        if step == self.steps or time.monotonic() - self.said >= LINE_EVERY_S:
            self.said = time.monotonic()
            say(f"{self.name}: step {step} of {self.steps}, loss {loss:.4f}")
