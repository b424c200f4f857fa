"""What a run of a build has spent, and whether its limits allow a further partition.

A run begins a partition if all partitions in progress and this one are expected to end within the limits. The mean of
the finished ones is the expectation, so the first one of each kind runs alone under a limit of time or money.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tailforge.schemas.prices import HOUR_SECONDS, Limits
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.report.units import show_seconds

Kind = tuple[str, ...]  # the stages of a chain


@dataclass(frozen=True)
class Spent:
    """Seconds and money."""

    seconds: float = 0.0
    money: float = 0.0

    def __sub__(self, other: "Spent") -> "Spent":
        """Return the difference."""
        return Spent(self.seconds - other.seconds, self.money - other.money)

    def __add__(self, other: "Spent") -> "Spent":
        """Return the sum."""
        return Spent(self.seconds + other.seconds, self.money + other.money)

    def scale(self, factor: float) -> "Spent":
        """Return a multiple."""
        return Spent(self.seconds * factor, self.money * factor)


@dataclass
class Spending:
    """The spending of one run. `draws`: the stage that makes images; `clock`: seconds of a clock that only rises."""

    limits: Limits
    draws: str
    clock: Callable[[], float] = time.monotonic
    images: int = 0  # finished
    started: float = field(init=False)
    _accelerated: float = 0.0  # seconds
    _begun: int = 0  # images of partitions in progress
    _paces: dict[Kind, Spent] = field(default_factory=dict)  # per chain
    _kind: Kind = ()
    _before: Spent = Spent()
    _ended: int = 0

    def __post_init__(self) -> None:
        """Start the clock."""
        self.started = self.clock()

    @property
    def spent(self) -> Spent:
        """Return the time since the start, and its price with that of the finished work of accelerators."""
        seconds, prices = self.clock() - self.started, self.limits.prices
        money = seconds * (prices.machine_hour or 0.0) + self._accelerated * (prices.accelerator_hour or 0.0)
        return Spent(seconds, money / HOUR_SECONDS)

    def begin(self, kind: Kind) -> None:
        """Note that chains of these stages follow, and none is in progress."""
        self._kind, self._before, self._ended, self._begun = kind, self.spent, 0, 0

    def window(self, most: int) -> int:
        """Return how many chains may be in progress: one as long as none has ended."""
        return 1 if self.limits.timed and self._kind not in self._paces else most

    def refuse(self, stage: str, rows: int, in_progress: int) -> str:
        """Return why a further chain, whose first step is of this stage, must not begin; empty if it may.

        The images of a chain that may begin count from now on.
        """
        images = rows if stage == self.draws else 0
        found = self.find_excess(images, 1, in_progress, self._kind)
        if not found:
            self._begun += images
        return found

    def find_excess(self, images: int, chains: int, in_progress: int, kind: Kind) -> str:
        """Return the limit that so many further images or chains exceed, with what is spent; empty if none."""
        limits, spent = self.limits, self.spent
        after = spent + self.expect(in_progress + chains, kind)
        drawn = self.images + self._begun
        if limits.images is not None and images and drawn + images > limits.images:
            return f"--max-images {limits.images} leaves {limits.images - drawn:,}, and the next work draws {images:,}"
        if limits.hours is not None and after.seconds >= limits.hours * HOUR_SECONDS:
            left = max(0.0, limits.hours * HOUR_SECONDS - spent.seconds)
            return f"--max-hours {limits.hours:g} leaves {show_seconds(left)}"
        if limits.cost is not None and after.money >= limits.cost:
            return f"--max-cost {limits.cost:g} leaves {max(0.0, limits.cost - spent.money):.2g}"
        return ""

    def expect(self, chains: int, kind: Kind) -> Spent:
        """Return what so many chains of these stages are expected to take; nothing before one has ended."""
        return self._paces.get(kind, Spent()).scale(chains)

    def record(self, receipt: Receipt, rows: int) -> None:
        """Count a finished step of this run."""
        if receipt.stage == self.draws:
            self.images, self._begun = self.images + rows, self._begun - rows
        if receipt.effort is not None and receipt.effort.device != "cpu":
            load = receipt.timings.get("load", 0.0) if receipt.effort.cold else 0.0
            self._accelerated += receipt.timings.get("compute", 0.0) + load

    def end_chain(self) -> None:
        """Learn from a chain that ended the mean time and money of its kind."""
        self._ended += 1
        self._paces[self._kind] = (self.spent - self._before).scale(1 / self._ended)


_spending: ContextVar[Spending | None] = ContextVar("spending", default=None)


@contextmanager
def share_spending(spending: Spending | None) -> Iterator[None]:
    """Let the flows within the `with` block count what they spend, one after another."""
    mark = _spending.set(spending)
    try:
        yield
    finally:
        _spending.reset(mark)


def get_spending() -> Spending | None:
    """Return the shared spending; None without limits."""
    return _spending.get()
