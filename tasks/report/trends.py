"""Compute small plots of a number over versions as coordinates for SVG: one mark and one bar per version."""

from collections.abc import Sequence
from dataclasses import dataclass

from tailforge.tasks.report.histograms import show_number

WIDTH, HEIGHT = 320.0, 96.0
LABELLED = 4  # version names that fit below the plot


@dataclass(frozen=True)
class Reading:
    """One version's number and its range, in the score's own unit."""

    version: str
    low: float
    middle: float
    high: float
    title: str


@dataclass(frozen=True)
class Mark:
    """A mark at `y`, with a bar of `height` from `top`; y grows downwards."""

    x: float
    y: float
    top: float
    height: float
    title: str
    last: bool


@dataclass(frozen=True)
class Trend:
    """Lengths in units of a WIDTH x HEIGHT drawing; `line` holds the points of a polyline through the marks."""

    title: str
    summary: str
    marks: tuple[Mark, ...]
    line: str
    ticks: tuple[tuple[float, str], ...]
    labels: tuple[tuple[float, str, str], ...]


def draw_trend(title: str, readings: Sequence[Reading]) -> Trend | None:
    """Return a plot; None without readings. The scale runs from the lowest to the highest value, not from zero."""
    if not readings:
        return None
    low, high = min(each.low for each in readings), max(each.high for each in readings)
    span = high - low or 1.0
    low, high = low - 0.08 * span, high + 0.08 * span

    def place(value: float) -> float:
        """Return the y of a value."""
        return round(HEIGHT * (high - value) / (high - low), 2)

    step = WIDTH / len(readings)
    marks = tuple(
        Mark(
            x=round((number + 0.5) * step, 2),
            y=place(each.middle),
            top=place(each.high),
            height=round(max(1.0, place(each.low) - place(each.high)), 2),
            title=f"{each.version}: {each.title}",
            last=number == len(readings) - 1,
        )
        for number, each in enumerate(readings)
    )
    ticks = [min(each.low for each in readings), max(each.high for each in readings)]
    return Trend(
        title=title,
        summary=f"{title}: {'; '.join(mark.title for mark in marks)}",
        marks=marks,
        line=" ".join(f"{mark.x:g},{mark.y:g}" for mark in marks),
        ticks=tuple((place(value), show_number(value)) for value in dict.fromkeys(ticks)),
        labels=_label(readings, [mark.x for mark in marks]),
    )


def _label(readings: Sequence[Reading], places: Sequence[float]) -> tuple[tuple[float, str, str], ...]:
    """Return (x, version, anchor) of evenly spread versions with first and last; labels at the ends stay inside."""
    last = len(readings) - 1
    shown = range(last + 1) if last < LABELLED else sorted({round(last * k / (LABELLED - 1)) for k in range(LABELLED)})
    anchors = {0: "start", last: "end"} if last >= LABELLED else {}
    return tuple((places[k], readings[k].version, anchors.get(k, "middle")) for k in shown)
