"""Run the steps of many partitions at once, or look which of them are missing.

A chain is a generator that yields the steps of one partition and receives their receipts. `Drive` runs many chains at
once: it passes on the receipt of a finished step and submits a missing one. At most `window` chains are open, so that
the number of task runs in flight does not grow with the dataset. A dry run stops each chain at its first missing step.
"""

import queue
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from tailforge.catalog.store import Store
from tailforge.flows.build.spending import Spending
from tailforge.schemas.errors import LimitReachedError
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Address, find_receipt
from tailforge.tasks.artifacts.failures import note_failure
from tailforge.tasks.artifacts.stage import Stage


@dataclass(frozen=True)
class Step:
    """One result to make: its stage, the stage's arguments, and the number of rows, 0 if unknown."""

    stage: Stage
    given: tuple[Any, ...]
    rows: int = 0

    @cached_property
    def address(self) -> Address:
        """Return the address of the result. Errors: those of the stage's `locate`."""
        return self.stage.locate(*self.given)


Chain = Generator[Step, Receipt, Any]


class Future(Protocol):
    """The future of a submitted step, as Prefect defines it."""

    def result(self) -> Any:
        """Wait for the step and return its receipt. Errors: those of the step."""

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` with this future when the step has ended."""


Queue = queue.SimpleQueue[tuple[int, Chain, Step, Future]]  # steps that have ended, each with its chain


class Progress(Protocol):
    """A display of a build's progress; see flows/terminal/build_progress.py."""

    def begin(self, part: str, stages: Sequence[str], steps: int) -> None:
        """Show a part of the build in which each stage has `steps` steps. `part`: its name for a person, or ""."""

    def start(self, step: Step) -> None:
        """Show that a step was submitted."""

    def tell(self, note: str) -> None:
        """Show a note."""

    def advance(self, step: Step, receipt: Receipt, cached: bool) -> None:
        """Show that a step is finished. `cached`: it was finished before."""


@dataclass
class Tally:
    """Steps expected, cached and missing by stage, and receipts. `ran`: receipts of steps that this drive ran.

    `open`: addresses of the missing steps of a dry run.
    """

    expected: Counter[str] = field(default_factory=Counter)
    cached: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    missing_rows: Counter[str] = field(default_factory=Counter)
    open: list[Address] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    ran: list[Receipt] = field(default_factory=list)


class Drive:
    """The runner of chains against a store. Without `submit` it runs dry: a chain stops at its first missing step."""

    def __init__(
        self,
        store: Store,
        submit: Callable[[Step], Future] | None,
        window: int = 8,
        progress: Progress | None = None,
        spending: Spending | None = None,
    ) -> None:
        self.store, self.submit, self.window, self.progress = store, submit, window, progress
        self.spending, self.excess = spending, ""  # a limit that was reached
        self.tally = Tally()

    def run(self, chains: Sequence[Chain], stages: Sequence[Stage], part: str = "") -> list[Any]:
        """Return the values of the chains, in order; None for an unfinished chain in a dry run.

        `stages`: the stages of each chain; `part`: a name of all chains for a person. Errors: the first error of a
        step, after the steps in flight have ended; LimitReachedError, after the chains in progress have ended. Finished
        steps stay finished.
        """
        names = [stage.name for stage in stages]
        self.tally.expected.update(dict.fromkeys(names, len(chains)))
        if self.progress is not None:
            self.progress.begin(part, names, len(chains))
        if self.spending is not None:
            self.spending.begin(tuple(names))
        results: list[Any] = [None] * len(chains)
        waiting: Iterator[tuple[int, Chain]] = iter(enumerate(chains))
        done: Queue = queue.SimpleQueue()
        in_flight, failure = 0, None

        # After a failure no chain is opened or continued, but all steps in flight are awaited. At a limit no chain is
        # opened, and those in progress go on.
        while True:
            try:
                while failure is None and self._may_open(in_flight) and (opened := next(waiting, None)) is not None:
                    in_flight += self._advance(*opened, None, results, done, in_flight)
                if in_flight == 0:
                    break
                index, chain, step, future = done.get()
                in_flight -= 1
                receipt = Receipt.model_validate(self._await(step, future))
                self._record(step, receipt, cached=False)
                if failure is None:
                    in_flight += self._advance(index, chain, receipt, results, done)
            except Exception as error:
                failure = failure or error

        if failure is not None:
            raise failure
        if self.excess:
            raise LimitReachedError(self.excess)
        return results

    def _may_open(self, in_flight: int) -> bool:
        """Return whether a further chain may be opened, with so many in progress."""
        window = self.window if self.spending is None else self.spending.window(self.window)
        return not self.excess and in_flight < window

    def _advance(
        self,
        index: int,
        chain: Chain,
        receipt: Receipt | None,
        results: list[Any],
        done: Queue,
        others: int | None = None,
    ) -> int:
        """Pass receipts of finished steps to a chain and submit its first missing step.

        `others`: chains in progress beside one that is being opened; None for a chain that goes on. Return 1 if a step
        is now in flight, else 0.
        """
        goes_on = receipt is not None
        while True:
            try:
                step = next(chain) if receipt is None else chain.send(receipt)
            except StopIteration as stop:
                results[index] = stop.value
                if goes_on and self.spending is not None:
                    self.spending.end_chain()
                return 0
            receipt = find_receipt(self.store, step.address)
            if receipt is None:
                if others is not None and self.spending is not None:
                    self.excess = self.spending.refuse(step.stage.name, step.rows, others)
                return 0 if self.excess and others is not None else self._submit(index, chain, step, done)
            self._record(step, receipt, cached=True)

    def _submit(self, index: int, chain: Chain, step: Step, done: Queue) -> int:
        """Submit a missing step and return 1. In a dry run close its chain and return 0."""
        self.tally.missing[step.stage.name] += 1
        self.tally.missing_rows[step.stage.name] += step.rows
        if self.submit is None:
            chain.close()
            self.tally.open.append(step.address)
            return 0

        if self.progress is not None:
            self.progress.start(step)
        self.submit(step).add_done_callback(lambda ended: done.put((index, chain, step, ended)))
        return 1

    def _await(self, step: Step, future: Future) -> Any:
        """Return the result of a step; write down its error for `tailforge status`."""
        try:
            return future.result()
        except Exception as error:
            note_failure(self.store, step.address, error)
            raise

    def show_notes(self, notes: Sequence[str]) -> None:
        """Show notes with the progress. A dry run shows none."""
        if self.progress is not None:
            for note in notes:
                self.progress.tell(note)

    def add_cached(self, receipt: Receipt) -> None:
        """Count a result from outside of the chains as a cached step."""
        self.tally.receipts.append(receipt)
        self.tally.cached[receipt.stage] += 1

    def _record(self, step: Step, receipt: Receipt, *, cached: bool) -> None:
        """Count a finished step and show it."""
        self.tally.receipts.append(receipt)
        if cached:
            self.tally.cached[step.stage.name] += 1
        else:
            self.tally.ran.append(receipt)
            if self.spending is not None:
                self.spending.record(receipt, step.rows)
        if self.progress is not None:
            self.progress.advance(step, receipt, cached)
