"""Show the progress of a build: one bar per stage on a terminal, one plain line per step elsewhere.

Each count covers one part of the work (a round or a stage) with a known number of steps, so totals never change.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

from tailforge.flows.build.drive import Step
from tailforge.flows.terminal.console import TextConsole, text_column
from tailforge.flows.terminal.heartbeat import say, work_elsewhere
from tailforge.schemas.documents.shown import count_of, visible
from tailforge.schemas.receipts import Receipt


class PlainProgress:
    """Writes one line per started part and one per finished step, for logs; `tell` receives each line."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.tell = tell or say
        self.done: Counter[str] = Counter()
        self.expected: Counter[str] = Counter()
        self.begun: dict[str, float] = {}  # start time of each unfinished step
        self.held = ExitStack()

    def __enter__(self) -> "PlainProgress":
        self.held.enter_context(work_elsewhere(self.describe))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.held.close()

    def describe(self) -> list[str]:
        """Return one line per step that workers hold."""
        return [f"{name}, for {time.monotonic() - begun:.0f} s" for name, begun in list(self.begun.items())]

    def start(self, step: Step) -> None:
        """Note the start of a step."""
        self.begun[name_step(step)] = time.monotonic()

    def begin(self, part: str, stages: Sequence[str], steps: int) -> None:
        """Write a line for a part of the build and reset the counts of its stages."""
        for stage in stages:
            self.done[stage], self.expected[stage] = 0, steps
        self.tell(f"{', '.join(stages)}: {count_of(steps, 'partition')}" + f", {part}" * bool(part))

    def advance(self, step: Step, receipt: Receipt, cached: bool) -> None:
        """Count a finished step and, unless it was cached, write a line."""
        stage = receipt.stage
        self.begun.pop(name_step(step), None)
        self.done[stage] += 1
        if not cached:
            seconds = receipt.timings.get("compute", 0.0)
            count = f"{self.done[stage]}/{self.expected[stage]}"
            self.tell(f"{stage} {count}: {receipt.label}, {count_of(receipt.rows, 'row')}, {seconds:.1f} s")


class TerminalProgress:
    """Shows one live bar per stage, for the current round."""

    def __init__(self) -> None:
        columns = (
            text_column("{task.description:10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self.bars = Progress(*columns, text_column("{task.fields[note]}"), console=TextConsole(stderr=True))
        self.tasks: dict[str, TaskID] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> "TerminalProgress":
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bars.stop()

    def begin(self, part: str, stages: Sequence[str], steps: int) -> None:
        """Show or reset the bars of some stages."""
        with self.lock:
            for stage in stages:
                if stage not in self.tasks:
                    self.tasks[stage] = self.bars.add_task(stage, total=steps, note=part)
                else:
                    self.bars.reset(self.tasks[stage], total=steps, note=part)

    def start(self, step: Step) -> None:
        """Do nothing: bars count finished steps."""

    def tell(self, note: str) -> None:
        """Print a note above the bars."""
        self.bars.console.print(note, highlight=False, markup=False, soft_wrap=True)

    def advance(self, step: Step, receipt: Receipt, cached: bool) -> None:
        """Move the bar of a finished step."""
        note = visible(f"{receipt.label}, cached" if cached else receipt.label)
        self.bars.update(self.tasks[receipt.stage], advance=1, note=note)


def name_step(step: Step) -> str:
    """Return the name of a step for log lines."""
    return f"{step.address.stage.name}: {step.address.label}"


class SharedProgress:
    """Passes each event to several progress displays."""

    def __init__(self, members: Sequence[PlainProgress | TerminalProgress]) -> None:
        self.members = members

    def begin(self, part: str, stages: Sequence[str], steps: int) -> None:
        """Pass on the start of a part."""
        for member in self.members:
            member.begin(part, stages, steps)

    def start(self, step: Step) -> None:
        """Pass on the start of a step."""
        for member in self.members:
            member.start(step)

    def tell(self, note: str) -> None:
        """Pass on a note."""
        for member in self.members:
            member.tell(note)

    def advance(self, step: Step, receipt: Receipt, cached: bool) -> None:
        """Pass on a finished step."""
        for member in self.members:
            member.advance(step, receipt, cached)


@contextmanager
def open_progress(log: Callable[[str], None], *, shown_elsewhere: bool = False) -> Iterator[SharedProgress]:
    """Yield the progress of a run: its log lines and, unless `shown_elsewhere`, a display on standard error."""
    logged = PlainProgress(log)
    if shown_elsewhere:
        yield SharedProgress([logged])
        return
    with TerminalProgress() if sys.stderr.isatty() else PlainProgress() as shown:
        yield SharedProgress([logged, shown])
