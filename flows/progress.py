"""What a build shows while it runs: a bar a stage on a terminal, one plain line a step elsewhere."""

import sys
import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flows.chain import Step
from schemas.receipts import Receipt


class PlainProgress:
    """One line a finished step, for logs."""

    def __init__(self) -> None:
        self.done = 0
        self.expected = 0

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def expect(self, stage: str, steps: int) -> None:
        self.expected += steps

    def advance(self, step: Step, receipt: Receipt, cached: bool) -> None:
        self.done += 1
        if not cached:
            seconds = receipt.timings.get("compute", 0.0)
            line = (
                f"[{self.done}/{self.expected}] {receipt.stage}: {receipt.label}, {receipt.rows} rows, {seconds:.1f} s"
            )
            print(line, file=sys.stderr, flush=True)


class TerminalProgress:
    """Live bars."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
        self.tasks: dict[str, TaskID] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> "TerminalProgress":
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bars.stop()

    def expect(self, stage: str, steps: int) -> None:
        with self.lock:
            if stage not in self.tasks:
                self.tasks[stage] = self.bars.add_task(stage, total=0, note="")
            bar = self.tasks[stage]
            self.bars.update(bar, total=(self.bars.tasks[bar].total or 0) + steps)

    def advance(self, step: Step, receipt: Receipt, cached: bool) -> None:
        note = "finished before" if cached else receipt.label
        self.bars.update(self.tasks[receipt.stage], advance=1, note=note)


def open_progress() -> PlainProgress | TerminalProgress:
    """The fitting progress for standard error."""
    return TerminalProgress() if sys.stderr.isatty() else PlainProgress()
