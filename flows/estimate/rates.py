"""What a row of a stage costs, learnt from the receipts of work that is most like it, and how far that can be trusted.

Choices of ours. Likeness comes first: receipts of the same settings and models on this machine; where there are none,
those of the next less like kind, and the interval widens by a stated factor. Among these, the first of each process
warms up and is kept apart. The rest gives seconds (and bytes) as a line, so much a partition and so much a row.

    interval = value / f .. value * f,   f = factor * exp(t * spread * sqrt(1 / known + 1 / to come))

with the 95 % quantile t of Student's distribution and the standard deviation `spread` of the logarithm of measured over
fitted: about nine of ten totals should lie inside. With a single receipt the spread is unknown and f is doubled.
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
UNKNOWN_SPREAD = 2.0  # factor where one receipt is all that is known
WIDEST = 10.0  # factor that a spread widens by at most: beyond it, little is known and that is said
ALL_COLD = 1.5  # factor where every receipt is of work that warmed up its process


@dataclass(frozen=True)
class Likeness:
    """How like the work of a receipt is; `factor`: by which a prediction from it may be off, its spread apart."""

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
    """A prediction: `value`, and bounds around it."""

    value: float
    low: float
    high: float

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.value + other.value, self.low + other.low, self.high + other.high)

    def scale(self, factor: float) -> "Interval":
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def widen(self, factor: float) -> "Interval":
        return Interval(self.value, self.low / factor, self.high * factor)


NOTHING = Interval(0.0, 0.0, 0.0)


def exactly(value: float) -> Interval:
    return Interval(value, value, value)


@dataclass(frozen=True)
class Line:
    """So much a partition (`per_step`) and a row; `spread` of log(measured / fitted), None of a single point."""

    per_step: float
    per_row: float
    spread: float | None
    points: int

    def at(self, steps: float, rows: float) -> float:
        return self.per_step * steps + self.per_row * rows

    def predict(self, steps: Interval, rows: Interval, factor: float) -> Interval:
        """The total of so many partitions with so many rows; see the head of this file."""
        value = self.at(steps.value, rows.value)
        if self.spread is None:
            factor *= UNKNOWN_SPREAD
        else:
            relative = self.spread * math.sqrt(1 / self.points + 1 / max(steps.value, 1.0))
            factor *= math.exp(min(stdtrit(self.points - 1, CERTAINTY) * relative, math.log(WIDEST)))
        return Interval(value, self.at(steps.low, rows.low) / factor, self.at(steps.high, rows.high) * factor)


@dataclass(frozen=True)
class Rate:
    """What a stage costs. `start`: seconds that a process's first partition takes longer; `load`: of its models."""

    seconds: Line
    bytes: Line
    start: float
    load: float
    device: str | None
    likeness: Likeness
    all_cold: bool

    @property
    def factor(self) -> float:
        return self.likeness.factor * (ALL_COLD if self.all_cold else 1.0)

    @property
    def basis(self) -> str:
        """What the rate rests on, for a person."""
        count = self.seconds.points
        words = f"from {count_of(count, 'partition')} {self.likeness.words}"
        words += ", which warmed up as well" if self.all_cold else ""
        return words if self.likeness.name == "same" else f"{words}: may be off by a factor of {self.factor:g}"


def judge_likeness(mine: Effort, models: Mapping[str, str], receipt: Receipt) -> Likeness | None:
    """How like a receipt's work is to work of effort `mine` with `models` (role: digest).

    None: it tells nothing, for another engine, or one that is not known, made it in a way that nobody counted.
    """
    effort = receipt.effort
    if effort is None:
        return OTHER if mine.engine in ("", PLAIN) else None
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
    """The rate by the most like receipts; None where there is none."""
    kinds: list[list[Receipt]] = [[] for _ in LIKENESS]
    for receipt in receipts:
        if (likeness := judge_likeness(mine, models, receipt)) is not None:
            kinds[LIKENESS.index(likeness)].append(receipt)
    found = [place for place, own in enumerate(kinds) if own]
    if not found:
        return None
    place = next((place for place in found if any(not _is_cold(each) for each in kinds[place])), found[0])
    cold = [each for each in kinds[place] if _is_cold(each)]
    warm = [each for each in kinds[place] if not _is_cold(each)]
    known = warm or cold
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
    """A line through (rows, cost) of partitions, neither part of it negative.

    By least squares of the cost a row, so that large and small partitions count alike. Partitions of one size cannot
    tell the two parts apart: then all is by the row, or by the partition where rows are not counted.
    """
    rows, cost = np.array([x for x, _ in points], float), np.array([y for _, y in points])
    if not rows.any():
        return Line(float(cost.mean()), 0.0, _spread(cost, np.full(len(cost), cost.mean())), len(points))
    rows, cost = rows[rows > 0], cost[rows > 0]
    per_step, per_row = 0.0, float(cost.sum() / rows.sum())
    if len(rows) >= 4 and rows.max() >= 1.5 * rows.min():
        slope, intercept = np.polyfit(1 / rows, cost / rows, 1)
        if slope > 0 and intercept > 0:
            per_step, per_row = float(slope), float(intercept)
    return Line(per_step, per_row, _spread(cost, per_step + per_row * rows), len(rows))


def scale_seconds(mine: Effort, receipt: Receipt) -> float:
    """Compute seconds of a receipt, its denoising (`sample`, else all) as with the passes and pixels of `mine`."""
    seconds, effort = receipt.timings.get("compute", 0.0), receipt.effort
    if effort is None or not (mine.passes and effort.passes):
        return seconds
    ratio = mine.passes / effort.passes
    if mine.pixels and effort.pixels:
        ratio *= mine.pixels / effort.pixels
    return seconds + receipt.timings.get("sample", seconds) * (ratio - 1)


def count_bytes(receipt: Receipt) -> int:
    """Bytes of an artifact with its attachments."""
    return receipt.bytes + sum(int(file["bytes"]) for file in receipt.details.get("files", {}).values())


def _is_cold(receipt: Receipt) -> bool:
    return receipt.effort is not None and receipt.effort.cold


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _spread(cost: "np.ndarray[tuple[int], np.dtype[np.float64]]", fitted: object) -> float | None:
    """Standard deviation of log(cost / fitted); None of fewer than two points that cost anything."""
    ratios = np.asarray(cost / np.asarray(fitted)) if np.all(np.asarray(fitted) > 0) else np.array([])
    ratios = ratios[ratios > 0]
    return float(np.log(ratios).std(ddof=1)) if len(ratios) > 1 else None
