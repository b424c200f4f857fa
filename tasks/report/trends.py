"""Small plots of a number over versions as plain coordinates for SVG: a mark a version, on a bar from low to high."""

from collections.abc import Sequence
from dataclasses import dataclass

from tailforge.tasks.report.histograms import show_number

WIDTH, HEIGHT = 320.0, 96.0
LABELLED = 4  # versions whose name has room below the plot


@dataclass(frozen=True)
class Reading:
    """One version's number, with the range drawn about it; all in the score's own unit."""

    version: str
    low: float
    middle: float
    high: float
    title: str


@dataclass(frozen=True)
class Mark:
    """y grows downwards; the bar goes from `top` over `height`, the mark lies at `y`."""

    x: float
    y: float
    top: float
    height: float
    title: str
    last: bool


@dataclass(frozen=True)
class Trend:
    """Lengths in units of a WIDTH x HEIGHT drawing; `line` are the points of a polyline through the marks."""

    title: str
    summary: str
    marks: tuple[Mark, ...]
    line: str
    ticks: tuple[tuple[float, str], ...]
    labels: tuple[tuple[float, str, str], ...]


def draw_trend(title: str, readings: Sequence[Reading]) -> Trend | None:
    """None where there is nothing to draw. The scale runs from the lowest to the highest drawn, not from zero."""
    if not readings:
        return None
    low, high = min(each.low for each in readings), max(each.high for each in readings)
    span = high - low or 1.0
    low, high = low - 0.08 * span, high + 0.08 * span

    def place(value: float) -> float:
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
    """(x, version, anchor) of versions spread evenly, first and last among them; those at an end stay inside."""
    last = len(readings) - 1
    shown = range(last + 1) if last < LABELLED else sorted({round(last * k / (LABELLED - 1)) for k in range(LABELLED)})
    anchors = {0: "start", last: "end"} if last >= LABELLED else {}
    return tuple((places[k], readings[k].version, anchors.get(k, "middle")) for k in shown)
