"""Draw what a version is worth to a model: two parts of the report that an evaluation replaces.

A published page never changes. An evaluation writes a copy of it, with these parts drawn anew.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jinja2

from tailforge.schemas.documents.worth import ClassCount, Dose, Figure, Worth
from tailforge.tasks.report.evaluation import Exchange, draw_exchange, tell_exchange

PARTS = {"verdict": "report_verdict.html.j2", "worth": "report_worth.html.j2"}
BEGIN, END = "<!-- begin {} -->", "<!-- end {} -->"
WIDTH, HEIGHT = 320.0, 112.0  # of the plot over shares, units of SVG
STEPS = 10  # of the scale of scores, from 0 to 1


@dataclass(frozen=True)
class ClassRow:
    """Score of one class without and with the version, on the test images."""

    name: str
    count: ClassCount | None
    before: Figure
    after: Figure


@dataclass(frozen=True)
class Point:
    """One share in the plot: `y` of the mean, `top` and `bottom` of its interval."""

    x: float
    y: float
    top: float
    bottom: float
    told: str


@dataclass(frozen=True)
class DoseCurve:
    """The points of one arm, and a polyline through them."""

    arm: str
    points: tuple[Point, ...]

    @property
    def line(self) -> str:
        """Return the points as SVG writes them."""
        return " ".join(f"{each.x:g},{each.y:g}" for each in self.points)


@dataclass(frozen=True)
class WorthView:
    """The worth of a version for the templates. `worth` is None for a version that was not evaluated."""

    dataset: str
    version: str
    worth: Worth | None
    level: Literal["unknown", "complete", "look", "bad"]
    title: str
    told: str
    classes: tuple[ClassRow, ...] = ()
    curves: tuple[DoseCurve, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()
    exchange: Exchange | None = None
    rate: str = ""
    width: float = WIDTH
    height: float = HEIGHT


def view_worth(dataset: str, version: str, worth: Worth | None) -> WorthView:
    """Return what the templates show of a version's worth."""
    if worth is None:
        return WorthView(dataset, version, None, "unknown", "Not evaluated", "")
    title, _, told = worth.verdict.partition(": ")
    level: Literal["complete", "look", "bad"] = {"gain": "complete", "loss": "bad"}.get(worth.outcome, "look")  # type: ignore[assignment]
    scale = _choose_scale(worth)
    return WorthView(
        dataset,
        version,
        worth,
        level,
        title[:1].upper() + title[1:],
        told,
        classes=_list_classes(worth),
        curves=_draw_curves(worth, scale),
        exchange=_draw_exchange(worth),
        rate=tell_exchange(worth.exchange.model_dump()) if worth.exchange else "",
        ticks=tuple((_height(each, scale), f"{100 * each:.0f} %") for each in scale),
    )


def draw_parts(view: WorthView, templates: Mapping[str, str]) -> dict[str, str]:
    """Return the HTML of each part between its marks, by the part's name. `templates`: texts by file name."""
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return {
        name: f"{BEGIN.format(name)}{environment.get_template(file).render(view=view)}{END.format(name)}"
        for name, file in PARTS.items()
    }


def replace_parts(page: str, parts: Mapping[str, str]) -> str:
    """Return a report page with other parts. A page without marks, of an older version, gets the section at its end."""
    for name, part in parts.items():
        before, begin, rest = page.partition(BEGIN.format(name))
        _, end, after = rest.partition(END.format(name))
        if begin and end:
            page = f"{before}{part}{after}"
        elif name == "worth":
            place = page.rfind("</main>")
            page = page + part if place < 0 else page[:place] + part + page[place:]
    return page


def _list_classes(worth: Worth) -> tuple[ClassRow, ...]:
    """Return the classes that have a score with the version and without, in the record's order."""
    if worth.before is None or worth.after is None:
        return ()
    after, counts = {each.name: each for each in worth.after.scores}, {each.name: each for each in worth.classes}
    return tuple(
        ClassRow(each.name, counts.get(each.name), each, after[each.name])
        for each in worth.before.scores
        if each.name in after
    )


def _draw_exchange(worth: Worth) -> Exchange | None:
    """Return the plot of the learning curve; None without a curve, or with points that were not measured."""
    if worth.exchange is None or not worth.exchange.points:
        return None
    figures = [worth.exchange.tail, *(point.tail for point in worth.exchange.points)]
    if any(None in (each.value, each.low, each.high) for each in figures):
        return None
    return draw_exchange(worth.exchange.model_dump(), WIDTH, HEIGHT)


def _choose_scale(worth: Worth) -> tuple[float, float]:
    """Return the lowest and highest score of the plot: whole steps around all intervals, within 0 to 1."""
    bounds = [
        each for dose in worth.doses for each in (dose.tail.low, dose.tail.value, dose.tail.high) if each is not None
    ]
    if not bounds:
        return 0.0, 1.0
    # At least one step stays between both ends.
    low = min(max(0, math.floor(min(bounds) * STEPS)), STEPS - 1)
    high = min(max(math.ceil(max(bounds) * STEPS), low + 1), STEPS)
    return low / STEPS, high / STEPS


def _height(value: float, scale: tuple[float, float]) -> float:
    """Return the y of a score; y grows downwards."""
    low, high = scale
    return round(HEIGHT * (high - value) / (high - low), 2)


def _draw_curves(worth: Worth, scale: tuple[float, float]) -> tuple[DoseCurve, ...]:
    """Return one curve per arm with several shares: score of rare classes on validation."""
    found: dict[str, list[Point]] = {}
    for dose in worth.doses:
        if dose.tail.value is not None:
            found.setdefault(dose.arm, []).append(_place(dose, dose.tail.value, scale))
    return tuple(DoseCurve(arm, tuple(points)) for arm, points in found.items())


def _place(dose: Dose, value: float, scale: tuple[float, float]) -> Point:
    """Return the place of one share; x runs from share 0 to 1."""
    low, high = (value if bound is None else bound for bound in (dose.tail.low, dose.tail.high))
    y, top, bottom = (_height(each, scale) for each in (value, high, low))
    return Point(round(WIDTH * dose.share, 2), y, top, bottom, f"{dose.arm}, share {dose.share:g}: {dose.tail.percent}")
