"""Histograms of scores as numbers for SVG."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.schemas.settings.gates import Gate
from tailforge.tasks.report.histograms import HEIGHT, WIDTH, describe_gate, draw_histogram, show_number

SCORE_LISTS = st.lists(st.floats(-1e4, 1e4).map(lambda v: round(v, 3)), max_size=60)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (None, ""),
        (Gate(min=0.2), "at least 0.2"),
        (Gate(min=0, max=1500), "at least 0, at most 1,500"),
        (Gate(min_quantile=0.05), "not the lowest 5 % of the concept"),
        (Gate(max=0.5, max_quantile=0.9), "at most 0.5, not above the 90 % quantile of the concept"),
    ],
)
def test_a_gate_in_words(gate: Gate | None, words: str) -> None:
    assert describe_gate(gate) == words


@pytest.mark.parametrize(("value", "text"), [(0.12345, "0.123"), (1234.5, "1,234"), (0.0, "0"), (-0.04, "-0.04")])
def test_a_number_in_three_digits(value: float, text: str) -> None:
    assert show_number(value) == text


def test_nothing_scored_draws_nothing() -> None:
    assert draw_histogram("sharpness", np.array([]), np.array([]), None, {"gear": np.array([])}) is None


def test_bars_stand_on_each_other_and_touch_the_top() -> None:
    passed, rejected = np.array([0.8, 0.8, 0.2]), np.array([0.2, 0.2, 0.2])
    drawn = draw_histogram("mask_area", passed, rejected, Gate(min=0.5), {})
    assert drawn is not None
    low, high = drawn.bars
    assert "1 passed, 3 rejected" in low.title
    assert "2 passed, 0 rejected" in high.title
    assert (low.rejected_y, low.passed_height) == (0, HEIGHT / 4)
    assert low.rejected_y + low.rejected_height == low.passed_y
    assert high.passed_height == HEIGHT / 2
    (cut,) = drawn.cuts
    assert cut.width == 0
    assert low.x < cut.x < high.x
    assert (cut.reject_x, cut.reject_width) == (0, cut.x)
    assert drawn.summary == ("Mask area: passed 3, median 0.8; rejected 3, median 0.2; gate: at least 0.5")


def test_a_quantile_gate_is_a_band_over_the_concepts() -> None:
    first_round = {"gear": np.linspace(0, 1, 101), "hook": np.linspace(1, 2, 101), "none": np.array([])}
    drawn = draw_histogram("clip_score", np.array([0.0, 2.0]), np.array([]), Gate(min_quantile=0.1), first_round)
    assert drawn is not None
    (cut,) = drawn.cuts
    per_unit = cut.width / 1.0  # the quantiles are 0.1 and 1.1
    whole = 2 + 2 * (2 / 32)  # the span, with a margin at both ends
    assert per_unit == pytest.approx(WIDTH / whole, rel=1e-3)
    assert cut.reject_width == cut.x


def test_few_stragglers_do_not_squeeze_the_rest() -> None:
    scores = np.concatenate([np.linspace(0, 1, 500), [1000.0]])
    drawn = draw_histogram("sharpness", scores, np.array([]), None, {})
    assert drawn is not None
    assert len(drawn.bars) > 25
    assert sum(int(bar.title.split(": ")[1].split(" ")[0]) for bar in drawn.bars) == 501


@given(SCORE_LISTS, SCORE_LISTS, st.none() | st.floats(-2e4, 2e4))
def test_every_score_is_counted_once_inside_the_drawing(
    taken: list[float], refused: list[float], minimum: float | None
) -> None:
    gate = None if minimum is None else Gate(min=minimum)
    drawn = draw_histogram("sharpness", np.array(taken), np.array(refused), gate, {})
    if not taken and not refused:
        assert drawn is None
        return
    assert drawn is not None
    counts = np.array([[int(word.split()[0]) for word in bar.title.split(": ")[1].split(", ")] for bar in drawn.bars])
    assert counts.sum(axis=0).tolist() == [len(taken), len(refused)]
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in drawn.bars)
    assert all(0 <= bar.rejected_y <= bar.passed_y <= HEIGHT for bar in drawn.bars)
    assert all(0 <= cut.x <= WIDTH for cut in drawn.cuts)
    assert all(0 <= x <= WIDTH for x, _ in drawn.ticks)
    assert len(drawn.ticks) >= 2
