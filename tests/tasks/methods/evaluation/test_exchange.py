"""The exchange rate: small cases by hand, and what holds for any curve."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.methods.evaluation.examples import show_classes
from tailforge.tasks.methods.evaluation.exchange import choose_share, measure_worth

IMAGES = [7, 15, 31, 63]  # 3, 4, 5 and 6 doublings of one image, with the one that the logarithm adds
CURVE = np.array([[0.2, 0.4, 0.5, 0.6], [0.2, 0.4, 0.5, 0.6]])


def test_a_gain_is_worth_the_images_at_which_the_curve_has_it() -> None:
    assert measure_worth(IMAGES, CURVE, 7, [0.4, 0.4]).value == 15 - 7
    found = measure_worth(IMAGES, CURVE, 7, [0.45, 0.45])  # 4.5 doublings: 22.6 - 1 images, so 22
    assert (found.value, found.low, found.high) == (22 - 7, 22 - 7, 22 - 7)
    assert (found.last, found.extrapolated) == (63 - 7, False)


def test_no_gain_is_worth_no_image() -> None:
    assert measure_worth(IMAGES, CURVE, 7, [0.2, 0.2]).value == 0
    assert measure_worth(IMAGES, CURVE, 7, [0.1, 0.1]).value == 0


def test_a_gain_beyond_the_curve_is_not_reached() -> None:
    found = measure_worth(IMAGES, CURVE, 7, [0.7, 0.7])
    assert (found.value, found.low, found.high, found.last) == (None, None, None, 56)
    assert found.per_hundred(200) == {"value": None, "low": None, "high": None, "last": 28.0}


def test_the_interval_holds_the_numbers_at_which_the_paired_difference_may_be_zero() -> None:
    own = [0.40, 0.44, 0.48]  # mean 0.44, half an interval 4.302653 * 0.04 / sqrt(3) = 0.0994
    found = measure_worth(IMAGES, np.repeat(CURVE[:1], 3, 0), 7, own)
    half = 4.302653 * 0.04 / math.sqrt(3)
    assert found.value == math.ceil(2 ** (4 + (0.44 - 0.4) / 0.1) - 1) - 7
    assert found.low == math.ceil(2 ** (3 + (0.44 - half - 0.2) / 0.2) - 1) - 7
    assert found.high == math.ceil(2 ** (5 + (0.44 + half - 0.5) / 0.1) - 1) - 7


def test_a_curve_of_fewer_images_goes_on_for_one_doubling() -> None:
    curve = np.array([[0.2, 0.3, 0.4]] * 2)  # 0.1 per doubling, up to 31 images
    found = measure_worth([7, 15, 31], curve, 31, [0.45, 0.45])
    assert (found.value, found.extrapolated) == (math.ceil(32 * 2**0.5 - 1) - 31, True)
    assert measure_worth([7, 15, 31], curve, 31, [0.5, 0.5]).value == found.last == 32
    assert measure_worth([7, 15, 31], curve, 31, [0.51, 0.51]).value is None


def test_a_flat_curve_reaches_no_gain() -> None:
    assert measure_worth([7, 15, 31], np.full((2, 3), 0.5), 31, [0.6, 0.6]).value is None


def test_a_curve_needs_two_points() -> None:
    with pytest.raises(ValueError, match="two points"):
        measure_worth([7], CURVE[:, :1], 7, [0.4, 0.4])


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_the_interval_contains_the_estimate(own: list[float], ends: list[float]) -> None:
    found = measure_worth([3, 200], np.array([[0.3, end] for end in ends]), 3, own)
    value, low, high = (math.inf if each is None else each for each in (found.value, found.low, found.high))
    assert 0 <= low <= value <= high


def test_shares_are_nested_and_of_each_class() -> None:
    labels = np.array([0] * 8 + [1] * 5 + [2] * 4)
    shown = show_classes(labels.tolist(), 3)
    half, all_ = choose_share(shown, [1, 2], 0.5, seed=3), choose_share(shown, [1, 2], 1.0, seed=3)
    assert np.bincount(labels[half], minlength=3).tolist() == [0, 3, 2]
    assert all_.tolist() == list(range(8, 17))
    assert set(choose_share(shown, [1, 2], 0.25, seed=3)) < set(half)
    assert choose_share(shown, [1], 0.5, seed=4).tolist() != choose_share(shown, [1], 0.5, seed=3).tolist()
