"""Draw the page of an evaluation: one self-contained HTML file with inline SVG, from its record."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.documents.worth import MIXED, Figure
from tailforge.tasks.report.distillation import show_percent
from tailforge.tasks.report.units import show_seconds

WIDTH, BAR = 640.0, 18.0  # of the plots of scores: units of SVG
CURVE = 160.0  # height of the dose curve
EXCHANGE = 220.0  # height of the learning curve
CELL = 28.0  # side of a cell of a confusion matrix
VERDICTS = {
    "gain": "the version helps",
    "loss": "the version harms",
    "no difference": "no difference is shown",
}


@dataclass(frozen=True)
class Bar:
    """One class in the plot of scores: places in SVG units. `low` and `high` bound the interval."""

    name: str
    top: float
    without: float
    with_: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The score of one arm by share: its points, and the points as a line."""

    arm: str
    points: tuple[tuple[float, float, str], ...]

    @property
    def line(self) -> str:
        """Return the points as SVG writes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in self.points)


@dataclass(frozen=True)
class Exchange:
    """The plot of an exchange rate, places in SVG units.

    `points`: place, text and interval (top and bottom) of each point. `level`: the score of the version's arm. `mark`:
    where the curve reaches it, None if it does not. `end`: the last point of the curve.
    """

    points: tuple[tuple[float, float, float, float, str], ...]
    level: float
    start: float
    mark: float | None
    end: tuple[float, float]
    top: str
    bottom: str

    @property
    def line(self) -> str:
        """Return the points as SVG writes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in self.points)


def tell_verdict(record: Mapping[str, Any]) -> str:
    """Return the verdict of an evaluation in one line.

    It holds the gains of the version over the best arm of real images, and the exchange rate with a learning curve.
    """
    gain = next(each for each in record["gains"] if each["arm"] == MIXED)
    arm = next(each for each in record["arms"] if each["arm"] == MIXED)
    tail, macro = gain["gain_tail"], gain["gain_macro"]
    return (
        f"{VERDICTS[tail['verdict']]}: {record['score']} of rare classes {show_gain(tail)} points, of all classes "
        f"{show_gain(macro)} points, {MIXED} at {arm['setting']} compared with {record['baseline']}"
        + (f"; {tell_exchange(record['exchange'])}" if record.get("exchange") else "")
    )


def tell_exchange(exchange: Mapping[str, Any]) -> str:
    """Return in one line how many real images of rare classes 100 synthetic ones are worth."""
    rate, how = exchange["per_hundred"], ""
    if exchange["worth"]["extrapolated"]:
        how = ", from a curve of fewer images that was continued"

    # Numbers beyond the curve are not known.
    beyond = f"more than {rate['last']:g}"
    value, low, high = (beyond if rate[key] is None else f"{rate[key]:g}" for key in ("value", "low", "high"))
    if rate["value"] is None:
        how = f": this curve does not reach their gain{how}"
    return f"100 synthetic images are worth {value} real images of rare classes (95 % interval {low} to {high}){how}"


def tell_costs(costs: Mapping[str, Any]) -> str:
    """Return in one line what making the versions and all trainings took, with money where prices are known."""
    told = [
        f"making {version} took {_show_cost(spent, costs['generation_money'][version])}"
        for version, spent in costs["generation_seconds"].items()
    ]
    return ", ".join([*told, f"training took {_show_cost(costs['training_seconds'], costs['training_money'])}"])


def _show_cost(seconds: float | None, money: float | None) -> str:
    """Return a duration, and its price if that is known."""
    if seconds is None:
        return "a time that is not recorded"
    return show_seconds(seconds) + ("" if money is None else f" (price {money:.2f})")


def show_gain(gain: Mapping[str, Any]) -> str:
    """Return a gain in points of per cent with its interval."""
    return Figure.model_validate(gain).points


def show_figure(figure: Mapping[str, Any]) -> str:
    """Return a share in per cent with its interval; a dash without a figure."""
    return Figure.model_validate(figure).percent


def draw_evaluation(record: Mapping[str, Any], costs: Mapping[str, Any], template: str) -> str:
    """Return the HTML of an evaluation's record and costs, from the text of its template."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    arms = {each["arm"]: each for each in record["arms"]}
    before, after = arms[record["baseline"]], arms[MIXED]
    return environment.from_string(template).render(
        **record,
        costs=costs,
        title=record["score"][:1].upper() + record["score"][1:],
        before=before,
        after=after,
        bars=_draw_bars(before, after),
        curves=_draw_curves(record["doses"]),
        worth=draw_exchange(record["exchange"]) if record["exchange"] else None,
        matrices=[(each["arm"], _shade(each["confusion"])) for each in (before, after)],
        width=WIDTH,
        bar=BAR,
        curve=CURVE,
        height=EXCHANGE,
        rate=tell_exchange,
        spent=tell_costs(costs),
        cell=CELL,
        count=count_of,
        figure=show_figure,
        gain=show_gain,
        percent=show_percent,
        seconds=show_seconds,
    )


def _draw_bars(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Bar]:
    """Return one bar per class. A class without an interval has one of no length."""
    bars = []
    for place, (old, new) in enumerate(zip(before["scores"], after["scores"], strict=True)):
        value = new["value"] or 0.0
        low, high = (value if new[key] is None else new[key] for key in ("low", "high"))
        sides = [WIDTH * each for each in (old["value"] or 0.0, value, low, high)]
        bars.append(Bar(new["class"], place * 2.5 * BAR, *sides))
    return bars


def _draw_curves(doses: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Return the curve per arm: score of rare classes on validation by share."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    for dose in doses:
        tail = dose["tail"]["value"] or 0.0
        told = f"share {dose['share']:g}: {show_percent(tail)}"
        found.setdefault(dose["arm"], []).append((WIDTH * dose["share"], CURVE * (1 - tail), told))
    return [Curve(arm, tuple(points)) for arm, points in found.items()]


def draw_exchange(exchange: Mapping[str, Any], width: float = WIDTH, height: float = EXCHANGE) -> Exchange:
    """Return the plot of scores of rare classes by the number of real images, on a logarithmic scale."""
    points, worth, tail = exchange["points"], exchange["worth"], exchange["tail"]["value"]
    first, last = points[0]["images"], max(points[-1]["images"], exchange["images"] + worth["last"])
    bounds = [each["tail"][key] for each in points for key in ("low", "high")]
    bottom = math.floor(10 * min(*bounds, tail)) / 10
    top = max(math.ceil(10 * max(*bounds, tail)) / 10, bottom + 0.1)

    def across(images: int) -> float:
        return width * math.log2((1 + images) / (1 + first)) / math.log2((1 + last) / (1 + first))

    def down(score: float) -> float:
        place: float = height * (top - score) / (top - bottom)
        return place

    # The end of the line is where a continued curve begins.
    shown = []
    for each in points:
        value, high, low = (down(each["tail"][key]) for key in ("value", "high", "low"))
        told = f"{count_of(each['images'], 'image')}: {show_figure(each['tail'])}"
        shown.append((across(each["images"]), value, high, low, told))
    start, sides = across(exchange["images"]), (show_percent(top), show_percent(bottom))
    mark = None if worth["value"] is None else across(exchange["images"] + worth["value"])
    return Exchange(tuple(shown), down(tail), start, mark, shown[-1][:2], *sides)


def _shade(confusion: Sequence[Sequence[int]]) -> list[list[tuple[int, float]]]:
    """Return count and share of its row per cell."""
    return [[(count, count / max(sum(row), 1)) for count in row] for row in confusion]
