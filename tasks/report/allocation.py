"""Describe where a steered build spent its images: per concept, round by round, and why it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tailforge.schemas.documents.shown import count_of
from tailforge.tasks.methods.allocation.decide import FULL, LAST, NO_GAIN, PER, SPENT
from tailforge.tasks.methods.intervals import wilson_interval
from tailforge.tasks.report.data import Decisions
from tailforge.tasks.report.trends import Reading, Trend, draw_trend
from tailforge.tasks.report.units import show_percent

ENDS = {
    SPENT: "the budget does not reach for another batch",
    FULL: "every concept has the images that it requests",
    LAST: "the most rounds are drawn",
    NO_GAIN: "another round was not expected to pay",
}


@dataclass(frozen=True)
class Recall:
    """A recall on validation images in 0..1, with its 95 % interval for other images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SpentRow:
    """One concept. `before`, `after`: recall before the first round and after the last.

    `gain`, `deviation`: recall that PER further images are expected to add, in the end. `chance`: that they would add
    more per cost than those of any other concept.
    """

    concept: str
    drawn: int
    kept: int
    seconds: float
    before: Recall
    after: Recall
    gain: float
    deviation: float
    chance: float
    validation: int


@dataclass(frozen=True)
class RoundRow:
    """One round: drawn images by concept, and the recall that PER of them were expected to add, with its deviation."""

    round: int
    images: Mapping[str, int]
    expected: float
    spread: float
    macro_recall: float


@dataclass(frozen=True)
class Allocation:
    """Where images were spent. `macro_recall`: over all real classes at the end; `judging_seconds`: of classifiers."""

    rows: tuple[SpentRow, ...]
    rounds: tuple[RoundRow, ...]
    end: str
    macro_recall: float
    judging_seconds: float

    @property
    def images(self) -> int:
        """Return the drawn images."""
        return sum(row.drawn for row in self.rows)

    @property
    def seconds(self) -> float:
        """Return the seconds of making and judging the images."""
        return sum(row.seconds for row in self.rows)


def describe_allocation(decided: Decisions) -> Allocation:
    """Return where images were spent."""
    by_round: dict[int, list[dict[str, Any]]] = {}
    for row in decided.table.to_pylist():
        by_round.setdefault(row["round"], []).append(row)
    rounds = [by_round[number] for number in sorted(by_round)]
    first, last = rounds[0], rounds[-1]
    return Allocation(
        rows=tuple(_describe_concept(old, new, decided.seconds) for old, new in zip(first, last, strict=True)),
        rounds=tuple(map(_describe_round, rounds[:-1])),
        end=ENDS.get(last[0]["stop"], "it is not finished"),
        macro_recall=last[0]["macro_recall"],
        judging_seconds=decided.judging_seconds,
    )


def _describe_concept(old: Mapping[str, Any], new: Mapping[str, Any], seconds: Mapping[str, float]) -> SpentRow:
    return SpentRow(
        concept=new["concept"],
        drawn=new["drawn"],
        kept=new["kept"],
        seconds=seconds.get(new["concept"], 0.0),
        before=_measure(old),
        after=_measure(new),
        gain=PER * new["gain"],
        deviation=PER * new["deviation"],
        chance=new["chance"],
        validation=new["validation"],
    )


def _describe_round(rows: Sequence[Mapping[str, Any]]) -> RoundRow:
    images = {row["concept"]: row["images"] for row in rows if row["images"]}
    return RoundRow(rows[0]["round"], images, rows[0]["expected"], rows[0]["spread"], rows[0]["macro_recall"])


def _measure(row: Mapping[str, Any]) -> Recall:
    low, high = wilson_interval(row["recall"] * row["validation"], row["validation"])
    return Recall(row["recall"], low, high)


def draw_recalls(decisions: pa.Table) -> list[Trend]:
    """Return a plot of the recall per concept, in per cent over kept images: one mark per round."""
    by_concept: dict[str, list[Reading]] = {}
    for row in decisions.to_pylist():
        found, images = _measure(row), count_of(row["kept"], "image")
        interval = f"95 % interval {show_percent(found.low)} to {show_percent(found.high)}"
        reading = Reading(
            str(row["kept"]),
            100 * found.low,
            100 * found.value,
            100 * found.high,
            f"recall {show_percent(found.value)} with {images}, {interval}",
        )
        by_concept.setdefault(row["concept"], []).append(reading)
    return [plot for concept, own in by_concept.items() if (plot := draw_trend(concept, own)) is not None]
