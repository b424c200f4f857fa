"""The order of the stages, written once and used twice: to build, and to see without working what a build would do.

A chain is a generator that yields the steps of one partition and receives their receipts. `drive` runs many chains
side by side: a step that is finished in the store is answered at once, any other is submitted, and while partition 3
is annotated partition 4 is synthesised. At most `window` chains are open, so that the number of task runs in flight
does not grow with the dataset.
"""

import queue
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from tailforge.catalog.store import Store
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Address, find_receipt
from tailforge.tasks.artifacts.failures import note_failure
from tailforge.tasks.artifacts.stage import Stage


@dataclass(frozen=True)
class Step:
    """One result to make: its stage, what the stage is `given`, and the number of its rows where that is known."""

    stage: Stage
    given: tuple[Any, ...]
    rows: int = 0

    @cached_property
    def address(self) -> Address:
        """Return the address of the result."""
        return self.stage.locate(*self.given)


Chain = Generator[Step, Receipt, Any]


class Future(Protocol):
    """What a submitted step gives: a Prefect future."""

    def result(self) -> Any: ...

    def add_done_callback(self, fn: Callable[[Any], None]) -> None: ...


class Progress(Protocol):
    """Told of each part of the work how many steps every stage of it has, and of each step that is begun or done.

    `part` is what a person calls it, "" where the stages' names say enough; see flows/terminal/build_progress.py.
    """

    def begin(self, part: str, stages: Sequence[str], steps: int) -> None: ...

    def start(self, step: Step) -> None: ...

    def tell(self, note: str) -> None: ...

    def advance(self, step: Step, receipt: Receipt, cached: bool) -> None: ...


@dataclass
class Tally:
    """What a walk through the chain met, by stage: steps that were to come, that were finished, that were run.

    `open`: where the missing steps of a dry run will lie.
    """

    expected: Counter[str] = field(default_factory=Counter)
    cached: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    missing_rows: Counter[str] = field(default_factory=Counter)
    open: list[Address] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    ran: list[Receipt] = field(default_factory=list)


class Drive:
    """Runs chains against a store. With `submit` None nothing is run: a chain stops at its first missing step."""

    def __init__(
        self,
        store: Store,
        submit: Callable[[Step], Future] | None,
        window: int = 8,
        progress: Progress | None = None,
    ) -> None:
        self.store, self.submit, self.window, self.progress = store, submit, window, progress
        self.tally = Tally()

    def run(self, chains: Sequence[Chain], stages: Sequence[Stage], part: str = "") -> list[Any]:
        """Values that the chains return, in order; None for a chain that is not finished (only without `submit`).

        `stages` names the steps of each chain, `part` all of them for a person. Errors: the first error of a step,
        after the steps in flight have ended; what they made stays.
        """
        names = [stage.name for stage in stages]
        self.tally.expected.update(dict.fromkeys(names, len(chains)))
        if self.progress is not None:
            self.progress.begin(part, names, len(chains))
        results: list[Any] = [None] * len(chains)
        waiting: Iterator[tuple[int, Chain]] = iter(enumerate(chains))
        done: queue.SimpleQueue[tuple[int, Chain, Step, Future]] = queue.SimpleQueue()
        in_flight, failure = 0, None
        while True:
            try:
                while failure is None and in_flight < self.window and (opened := next(waiting, None)) is not None:
                    in_flight += self._advance(*opened, None, results, done)
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
        return results

    def _advance(
        self,
        index: int,
        chain: Chain,
        receipt: Receipt | None,
        results: list[Any],
        done: "queue.SimpleQueue[tuple[int, Chain, Step, Future]]",
    ) -> int:
        """Answer finished steps; submit the first missing one. Returns 1 if a step is now in flight, else 0."""
        while True:
            try:
                step = next(chain) if receipt is None else chain.send(receipt)
            except StopIteration as stop:
                results[index] = stop.value
                return 0
            receipt = find_receipt(self.store, step.address)
            if receipt is not None:
                self._record(step, receipt, cached=True)
                continue
            self.tally.missing[step.stage.name] += 1
            self.tally.missing_rows[step.stage.name] += step.rows
            if self.submit is None:
                chain.close()
                self.tally.open.append(step.address)
                return 0
            if self.progress is not None:
                self.progress.start(step)
            future = self.submit(step)
            future.add_done_callback(lambda ended, step=step: done.put((index, chain, step, ended)))  # type: ignore[misc]
            return 1

    def _await(self, step: Step, future: Future) -> Any:
        try:
            return future.result()
        except Exception as error:
            note_failure(self.store, step.address, error)
            raise

    def tell(self, notes: Sequence[str]) -> None:
        """Show a person what they should know; a dry run has its own place for that."""
        if self.progress is not None:
            for note in notes:
                self.progress.tell(note)

    def take(self, receipt: Receipt) -> None:
        """Count what was made outside of the chain and takes part in it, as finished before."""
        self.tally.receipts.append(receipt)
        self.tally.cached[receipt.stage] += 1

    def _record(self, step: Step, receipt: Receipt, *, cached: bool) -> None:
        self.tally.receipts.append(receipt)
        if cached:
            self.tally.cached[step.stage.name] += 1
        else:
            self.tally.ran.append(receipt)
        if self.progress is not None:
            self.progress.advance(step, receipt, cached)
