"""Draw plots over versions: yield, cost and every score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailforge.schemas.documents.shown import count_of
from tailforge.tasks.methods.intervals import wilson_interval
from tailforge.tasks.report.data import VersionCounts
from tailforge.tasks.report.drift import Drift
from tailforge.tasks.report.histograms import SCORES, show_number
from tailforge.tasks.report.trends import Reading, Trend, draw_trend


@dataclass(frozen=True)
class ScoreTrend:
    """A score over versions.

    `drift`: against each earlier version over all concepts, newest first. `concepts`: flagged comparisons of one
    concept.
    """

    title: str
    plot: Trend
    drift: tuple[Drift, ...]
    concepts: tuple[Drift, ...]

    @property
    def flagged(self) -> bool:
        """Return whether any comparison is flagged."""
        return any(each.flagged for each in (*self.drift, *self.concepts))


def draw_history(history: Sequence[VersionCounts]) -> list[Trend]:
    """Return plots of accepted images, the share that passed every gate, and seconds per accepted image."""
    return [
        trend
        for title, read in PLOTS
        if (trend := draw_trend(title, [reading for each in history if (reading := read(each))]))
    ]


def draw_scores(history: Sequence[VersionCounts], drift: Sequence[Drift]) -> list[ScoreTrend]:
    """Return one plot per score of this version: drifted scores first, then in the order of SCORES."""
    found = []
    for score, kind in SCORES.items():
        readings = [_read_quartiles(each, score) for each in history if score in each.quartiles]
        plot = draw_trend(kind.title, readings)
        if plot is None or score not in history[-1].quartiles:
            continue
        own = [each for each in drift if each.score == score]
        whole = tuple(each for each in reversed(own) if not each.concept)
        found.append(ScoreTrend(kind.title, plot, whole, tuple(each for each in own if each.concept and each.flagged)))
    return sorted(found, key=lambda trend: not trend.flagged)


def _read_rate(counts: VersionCounts) -> Reading | None:
    if counts.rate is None:
        return None
    passed = counts.accepted + counts.surplus
    low, high = (100 * bound for bound in wilson_interval(passed, counts.made))
    title = f"{100 * counts.rate:.1f} %, {passed:,} of {counts.made:,} made"
    return Reading(counts.version, low, 100 * counts.rate, high, title)


def _read_accepted(counts: VersionCounts) -> Reading:
    low, high = sorted((counts.accepted, counts.wanted))
    title = f"{counts.accepted:,} accepted of {counts.wanted:,} requested"
    return Reading(counts.version, low, counts.accepted, high, title)


def _read_cost(counts: VersionCounts) -> Reading | None:
    if counts.seconds is None or not counts.accepted:
        return None
    each = counts.seconds / counts.accepted
    return Reading(counts.version, each, each, each, f"{show_number(each)} s")


def _read_quartiles(counts: VersionCounts, score: str) -> Reading:
    low, middle, high, number = counts.quartiles[score]
    spread = f"{show_number(low)} to {show_number(high)}"
    return Reading(
        counts.version,
        low,
        middle,
        high,
        f"median {show_number(middle)}, quartiles {spread}, {count_of(number, 'image')}",
    )


PLOTS: tuple[tuple[str, Callable[[VersionCounts], Reading | None]], ...] = (
    ("Accepted images", _read_accepted),
    ("Passed every gate, %", _read_rate),
    ("Seconds per accepted image", _read_cost),
)
