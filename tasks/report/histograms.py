"""Compute histograms of the quality scores as numbers for SVG: stacked counts and gate bounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.settings.gates import SCORES as ALL_SCORES
from tailforge.schemas.settings.gates import Gate, ScoreKind

WIDTH, HEIGHT, BINS = 320.0, 112.0, 32
STRAGGLERS = 0.25  # the last bin gathers a tail longer than this share of the central 98 %

# The scores in the order of the report: costly ones first.
SOURCES = ("scorer", "classifier", "mask", "pixels")
SCORES: Mapping[str, ScoreKind] = {
    name: kind for source in SOURCES for name, kind in ALL_SCORES.items() if kind.source == source
}

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Bar:
    """One bin; y grows downwards, and the rejected part stands on the passed part."""

    x: float
    width: float
    passed_y: float
    passed_height: float
    rejected_y: float
    rejected_height: float
    title: str


@dataclass(frozen=True)
class Cut:
    """A gate's bound. `width` is 0 for an absolute bound; a quantile differs per concept and forms a band.

    The bound rejects [reject_x, reject_x + reject_width] for every concept.
    """

    x: float
    width: float
    reject_x: float
    reject_width: float


@dataclass(frozen=True)
class Histogram:
    """One score over all scored images; lengths in units of a WIDTH x HEIGHT drawing."""

    title: str
    meaning: str
    gate: str
    summary: str
    scored: int
    bars: tuple[Bar, ...]
    cuts: tuple[Cut, ...]
    ticks: tuple[tuple[float, str], ...]


def show_number(value: float) -> str:
    """Return a number with three digits, thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def describe_gate(gate: Gate | None) -> str:
    """Return a gate in words; empty without a gate."""
    if gate is None:
        return ""
    words = []
    if gate.min is not None:
        words.append(f"at least {show_number(gate.min)}")
    if gate.max is not None:
        words.append(f"at most {show_number(gate.max)}")
    if gate.min_quantile is not None:
        words.append(f"not the lowest {100 * gate.min_quantile:g} % of the concept")
    if gate.max_quantile is not None:
        words.append(f"not above the {100 * gate.max_quantile:g} % quantile of the concept")
    return ", ".join(words)


def draw_histogram(
    score: str, passed: Values, rejected: Values, gate: Gate | None, first_round: Mapping[str, Values]
) -> Histogram | None:
    """Return the histogram of one score's finite values; None without values.

    `first_round`: values per concept from which tasks/methods/quality/gates.py computes its quantiles.
    """
    both = np.concatenate([passed, rejected])
    if not both.size:
        return None

    bounds = _bounds(gate, first_round)
    low, high = _span(both, [value for _, values in bounds for value in values])
    title, meaning = SCORES[score].title, SCORES[score].meaning
    words = describe_gate(gate)

    return Histogram(
        title=title,
        meaning=meaning,
        gate=words,
        summary=_summarise(title, passed, rejected, words),
        scored=int(both.size),
        bars=_stack(passed, rejected, low, high),
        cuts=tuple(_cut(is_minimum, values, low, high) for is_minimum, values in bounds),
        ticks=tuple((_place(value, low, high), show_number(value)) for value in _nice_ticks(low, high)),
    )


def _bounds(gate: Gate | None, first_round: Mapping[str, Values]) -> list[tuple[bool, list[float]]]:
    """Return the gate's bounds: whether it is a minimum, and its values (one, or one per concept)."""
    if gate is None:
        return []
    found = [(True, [gate.min])] if gate.min is not None else []
    found += [(False, [gate.max])] if gate.max is not None else []
    for is_minimum, level in ((True, gate.min_quantile), (False, gate.max_quantile)):
        values = (
            [float(np.quantile(own, level)) for own in first_round.values() if own.size] if level is not None else []
        )
        found += [(is_minimum, values)] if values else []
    return found


def _span(values: Values, bounds: Sequence[float]) -> tuple[float, float]:
    """Return the range to draw: all values, without a few distant stragglers."""
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = (float(value) for value in np.quantile(values, (0.01, 0.99)))
    slack = STRAGGLERS * (inner_high - inner_low)
    if slack > 0:
        low = inner_low if low < inner_low - slack else low
        high = inner_high if high > inner_high + slack else high
    low, high = min([low, *bounds]), max([high, *bounds])
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    margin = (high - low) / BINS  # space beyond a bound at the very end
    return low - margin, high + margin


def _place(value: float, low: float, high: float) -> float:
    return round(WIDTH * (value - low) / (high - low), 2)


def _stack(passed: Values, rejected: Values, low: float, high: float) -> tuple[Bar, ...]:
    edges = np.linspace(low, high, BINS + 1)
    below = np.histogram(np.clip(passed, low, high), edges)[0]
    above = np.histogram(np.clip(rejected, low, high), edges)[0]
    tallest = max(1, int((below + above).max()))

    step = WIDTH / BINS
    bars = []
    for index, (n_passed, n_rejected) in enumerate(zip(below.tolist(), above.tolist(), strict=True)):
        if n_passed + n_rejected:
            bottom, top = HEIGHT * n_passed / tallest, HEIGHT * n_rejected / tallest
            span = f"{show_number(edges[index])} to {show_number(edges[index + 1])}"
            bars.append(
                Bar(
                    x=round(index * step + 0.5, 2),
                    width=round(step - 1, 2),
                    passed_y=round(HEIGHT - bottom, 2),
                    passed_height=round(bottom, 2),
                    rejected_y=round(HEIGHT - bottom - top, 2),
                    rejected_height=round(top, 2),
                    title=f"{span}: {n_passed} passed, {n_rejected} rejected",
                )
            )
    return tuple(bars)


def _cut(is_minimum: bool, values: Sequence[float], low: float, high: float) -> Cut:
    start, end = _place(min(values), low, high), _place(max(values), low, high)
    reject_x, reject_end = (0.0, start) if is_minimum else (end, WIDTH)
    return Cut(x=start, width=round(end - start, 2), reject_x=reject_x, reject_width=round(reject_end - reject_x, 2))


def _nice_ticks(low: float, high: float) -> list[float]:
    """Return three to six round values inside the range."""
    raw = (high - low) / 4
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= raw * 0.999)
    first = math.ceil(low / step)
    ticks = [round(step * (first + k), 12) for k in range(math.floor(high / step) - first + 1)]
    return [tick + 0.0 for tick in ticks]  # + 0.0 turns a negative zero into zero


def _summarise(title: str, passed: Values, rejected: Values, gate: str) -> str:
    """Return the drawing in words, for readers who cannot see it."""
    parts = [
        f"{name} {v.size}, median {show_number(float(np.median(v)))}"
        for name, v in (("passed", passed), ("rejected", rejected))
        if v.size
    ]
    return f"{title}: {'; '.join(parts)}; {f'gate: {gate}' if gate else 'no gate'}"
