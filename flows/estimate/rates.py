"""Fit the cost of a stage per partition and per row from receipts of the most similar work, with its uncertainty.

All choices are ours. Receipts of the same settings and models on this machine come first. Without any, the next less
similar kind is used, and the interval grows by a stated factor. The first partition of each process includes a warm-up
and is kept apart. The other receipts determine a line: seconds (and bytes) per partition and per row.

    interval = value / f .. value * f,   f = factor * exp(t * spread * sqrt(1 / known + 1 / to come))

t is the 95 % quantile of Student's distribution, and `spread` the standard deviation of log(measured / fitted). `known`
is the number of receipts, `to come` that of partitions. About nine of ten totals should be inside. With a single
receipt the spread is unknown and f is doubled.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.effort import PLAIN, Effort
from tailforge.schemas.receipts import Receipt

CERTAINTY = 0.95  # one-sided, of Student's distribution
UNKNOWN_SPREAD = 2.0  # factor with a single receipt
WIDEST = 10.0  # largest factor of a spread; a larger one would say no more
ALL_COLD = 1.5  # factor if every receipt includes a warm-up


@dataclass(frozen=True)
class Likeness:
    """The similarity of a receipt's work. `factor`: the error of a prediction from it, without its spread."""

    name: str
    factor: float
    words: str


SAME = Likeness("same", 1.15, "of these settings and models on this machine")
THREADS = Likeness("threads", 1.5, "of these settings and models on this machine with another number of threads")
SETTINGS = Likeness("settings", 1.5, "of other settings with the same models on this machine")
MACHINE = Likeness("machine", 2.0, "of these settings and models on another machine")
OTHER_MODELS = Likeness("models", 2.0, "of other models on this machine")
ENGINE = Likeness("engine", 3.0, "of another engine on this machine, by passes through the network")
OTHER = Likeness("other", 4.0, "of another kind or of an unknown machine")
LIKENESS = (SAME, THREADS, SETTINGS, MACHINE, OTHER_MODELS, ENGINE, OTHER)


@dataclass(frozen=True)
class Interval:
    """A predicted `value` with a lower and an upper bound."""

    value: float
    low: float
    high: float

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.value + other.value, self.low + other.low, self.high + other.high)

    def scale(self, factor: float) -> "Interval":
        """Return the interval times a factor."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def widen(self, factor: float) -> "Interval":
        """Return the same value with the lower bound divided and the upper bound multiplied by a factor."""
        return Interval(self.value, self.low / factor, self.high * factor)


NOTHING = Interval(0.0, 0.0, 0.0)


def exactly(value: float) -> Interval:
    """Return an interval that holds only this value."""
    return Interval(value, value, value)


@dataclass(frozen=True)
class Line:
    """Cost per partition (`per_step`) and per row. `spread`: of log(measured / fitted), None with a single point."""

    per_step: float
    per_row: float
    spread: float | None
    points: int

    def at(self, steps: float, rows: float) -> float:
        """Return the cost of partitions with these rows in all."""
        return self.per_step * steps + self.per_row * rows

    def predict(self, steps: Interval, rows: Interval, factor: float) -> Interval:
        """Predict the cost of partitions with these rows in all, by the equation of the module's docstring."""
        value = self.at(steps.value, rows.value)
        if self.spread is None:
            factor *= UNKNOWN_SPREAD
        else:
            relative = self.spread * math.sqrt(1 / self.points + 1 / max(steps.value, 1.0))
            factor *= math.exp(min(stdtrit(self.points - 1, CERTAINTY) * relative, math.log(WIDEST)))
        return Interval(value, self.at(steps.low, rows.low) / factor, self.at(steps.high, rows.high) * factor)


@dataclass(frozen=True)
class Rate:
    """The cost of a stage. `start`: seconds of a process's warm-up. `load`: seconds of loading its models."""

    seconds: Line
    bytes: Line
    start: float
    load: float
    device: str | None
    likeness: Likeness
    all_cold: bool

    @property
    def factor(self) -> float:
        """Return the factor of error from dissimilar work and warm-ups."""
        return self.likeness.factor * (ALL_COLD if self.all_cold else 1.0)

    @property
    def basis(self) -> str:
        """Return the origin of the rate in words."""
        count = self.seconds.points
        words = f"from {count_of(count, 'partition')} {self.likeness.words}"
        words += ", warm-up included" if self.all_cold else ""
        return words if self.likeness.name == "same" else f"{words}: may be wrong by a factor of {self.factor:g}"


def judge_likeness(mine: Effort, models: Mapping[str, str], receipt: Receipt) -> Likeness | None:
    """Return the similarity of a receipt's work to work of effort `mine` with `models` (digest by role).

    Return None if the receipt cannot predict it: another or an unknown engine did work that is not counted in passes.
    """
    # Receipts of earlier releases have no effort.
    effort = receipt.effort
    if effort is None:
        return OTHER if mine.engine in ("", PLAIN) else None

    # Same settings, then another engine, then other settings or models.
    here = effort.place == mine.place
    if effort.like == mine.like:
        return MACHINE if not here else SAME if effort.has_threads_of(mine) else THREADS
    if effort.engine != mine.engine:
        counted = bool(effort.passes and mine.passes)
        return (ENGINE if here else OTHER) if counted else None
    if here and effort.version == mine.version:
        return SETTINGS if receipt.models == models else OTHER_MODELS
    return OTHER


def fit_rate(mine: Effort, models: Mapping[str, str], receipts: Sequence[Receipt]) -> Rate | None:
    """Fit the rate to the most similar receipts. Return None if none is similar."""
    # Sort the receipts by similarity.
    kinds: list[list[Receipt]] = [[] for _ in LIKENESS]
    for receipt in receipts:
        if (likeness := judge_likeness(mine, models, receipt)) is not None:
            kinds[LIKENESS.index(likeness)].append(receipt)
    found = [place for place, own in enumerate(kinds) if own]
    if not found:
        return None

    # The most similar kind with a receipt after the warm-up, or else the most similar kind.
    place = next((place for place in found if any(not _is_cold(each) for each in kinds[place])), found[0])
    cold = [each for each in kinds[place] if _is_cold(each)]
    warm = [each for each in kinds[place] if not _is_cold(each)]
    known = warm or cold

    # The line, then the excess of first partitions above it.
    line = fit_line([(each.rows, scale_seconds(mine, each)) for each in known])
    excess = [scale_seconds(mine, each) - line.at(1, each.rows) for each in cold if warm]
    loads = [each.timings.get("load", 0.0) for each in cold]
    effort = known[0].effort
    return Rate(
        seconds=line,
        bytes=fit_line([(each.rows, float(count_bytes(each))) for each in [*warm, *cold]]),
        start=max(0.0, _mean(excess)),
        load=_mean(loads),
        device=effort.device if effort else None,
        likeness=LIKENESS[place],
        all_cold=not warm,
    )


def fit_line(points: Sequence[tuple[int, float]]) -> Line:
    """Fit a line to the (rows, cost) of partitions, with costs per partition and per row of 0 or more.

    The fit minimises squares of the cost per row, so that large and small partitions have equal weight. With partitions
    of one size the whole cost is per row, or per partition if the rows are 0.
    """
    # A stage without rows has a cost per partition.
    rows, cost = np.array([x for x, _ in points], float), np.array([y for _, y in points])
    if not rows.any():
        return Line(float(cost.mean()), 0.0, _spread(cost, np.full(len(cost), cost.mean())), len(points))

    # cost / rows = per_step / rows + per_row, if the sizes differ enough to separate both.
    rows, cost = rows[rows > 0], cost[rows > 0]
    per_step, per_row = 0.0, float(cost.sum() / rows.sum())
    if len(rows) >= 4 and rows.max() >= 1.5 * rows.min():
        slope, intercept = np.polyfit(1 / rows, cost / rows, 1)
        if slope > 0 and intercept > 0:
            per_step, per_row = float(slope), float(intercept)
    return Line(per_step, per_row, _spread(cost, per_step + per_row * rows), len(rows))


def scale_seconds(mine: Effort, receipt: Receipt) -> float:
    """Return the compute seconds of a receipt, with its denoising scaled to the passes and pixels of `mine`."""
    # Without a phase `sample` all seconds count as denoising.
    seconds, effort = receipt.timings.get("compute", 0.0), receipt.effort
    if effort is None or not (mine.passes and effort.passes):
        return seconds
    ratio = mine.passes / effort.passes
    if mine.pixels and effort.pixels:
        ratio *= mine.pixels / effort.pixels
    return seconds + receipt.timings.get("sample", seconds) * (ratio - 1)


def count_bytes(receipt: Receipt) -> int:
    """Return the bytes of an artifact with its attached files."""
    return receipt.bytes + sum(int(file["bytes"]) for file in receipt.details.get("files", {}).values())


def _is_cold(receipt: Receipt) -> bool:
    return receipt.effort is not None and receipt.effort.cold


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _spread(cost: "np.ndarray[tuple[int], np.dtype[np.float64]]", fitted: object) -> float | None:
    """Return the standard deviation of log(cost / fitted) [points]; None with fewer than two costs above 0."""
    ratios = np.asarray(cost / np.asarray(fitted)) if np.all(np.asarray(fitted) > 0) else np.array([])
    ratios = ratios[ratios > 0]
    return float(np.log(ratios).std(ddof=1)) if len(ratios) > 1 else None
