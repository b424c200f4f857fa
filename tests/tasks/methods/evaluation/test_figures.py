"""Metrics, adjustment and gains: small cases by hand, and what holds for any numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.methods.evaluation.adjust import Check, adjust_logits, choose_check
from tailforge.tasks.methods.evaluation.gains import judge_gain, paired_gain, summarise_seeds, summarise_shares
from tailforge.tasks.methods.evaluation.metrics import (
    calibration_error,
    calibration_gaps,
    confusion_matrix,
    mean_score,
    name_groups,
    recall_per_class,
    softmax,
)

LABELS, FOUND = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 1, 0])


def test_recall_of_a_case_by_hand() -> None:
    confusion = confusion_matrix(FOUND, LABELS, 3)
    assert confusion.tolist() == [[2, 1, 1], [1, 1, 0], [0, 0, 0]]
    recall = recall_per_class(confusion).tolist()
    assert recall[:2] == [0.5, 0.5]
    assert math.isnan(recall[2])
    assert mean_score(recall) == 0.5
    assert math.isnan(mean_score(recall, [2]))
    assert mean_score([1.0, 0.0, 0.5], [0, 2]) == 0.75


def test_groups_have_the_bounds_of_their_source() -> None:
    assert name_groups([0, 20, 21, 100, 101], many=100, few=20) == ["few", "few", "medium", "medium", "many"]


def test_calibration_error_of_a_case_by_hand() -> None:
    # Two bins: 0.5 to 0.6 with one of two right, and 0.9 to 1 with both right.
    right = np.array([True, False, True, True])
    gaps = calibration_gaps(np.array([0.55, 0.55, 0.95, 0.95]), right)
    assert calibration_error(gaps, 4) == pytest.approx((abs(1 - 1.1) + abs(2 - 1.9)) / 4)
    assert calibration_error(calibration_gaps(np.array([]), np.array([], bool)), 0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.integers(0, 50))
def test_calibration_error_is_a_share_and_parts_add_up(pairs: list[tuple[float, bool]], cut: int) -> None:
    confidence, right = (np.array(column) for column in zip(*pairs, strict=True))
    gaps = calibration_gaps(confidence.astype(float), right.astype(bool))
    assert 0 <= calibration_error(gaps, len(pairs)) <= 1 + 1e-9
    parts = [
        calibration_gaps(confidence[each].astype(float), right[each].astype(bool))
        for each in (slice(cut), slice(cut, None))
    ]
    assert sum(parts) == pytest.approx(gaps)


def test_adjustment_prefers_what_is_rare() -> None:
    logits = np.array([[1.0, 0.9]])
    assert adjust_logits(logits, [99, 1], 0.0).argmax() == 0
    assert adjust_logits(logits, [99, 1], 1.0).argmax() == 1
    assert adjust_logits(logits, [99, 1], 1.0)[0, 1] - 0.9 == pytest.approx(math.log(100))
    assert adjust_logits(logits, [99, 0], 1.0)[0, 1] - 0.9 == pytest.approx(math.log(2))  # a class without images


def test_probabilities_sum_to_one_for_large_logits() -> None:
    assert softmax(np.array([[1000.0, 0.0], [2.0, 2.0]])).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_validation_chooses_the_best_check_and_the_weakest_adjustment_among_equals() -> None:
    checks = [
        Check(1, 0.0, (1.0, 0.0)),
        Check(2, 0.5, (1.0, 1.0)),
        Check(2, 0.0, (1.0, 1.0)),
        Check(3, 0.0, (1.0, 1.0)),
    ]
    assert [each.macro for each in checks] == [0.5, 1.0, 1.0, 1.0]
    assert choose_check(checks) == Check(2, 0.0, (1.0, 1.0))


def test_gain_of_a_case_by_hand() -> None:
    # Differences 0.1, 0.2, 0.3: deviation 0.1, Student's quantile for two degrees of freedom 4.302653.
    gain = paired_gain([0.5, 0.7, 0.9], [0.4, 0.5, 0.6])
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half), abs=1e-5)
    assert judge_gain(gain) == "no difference"
    assert judge_gain(paired_gain([0.9, 0.91], [0.1, 0.1])) == "gain"
    assert judge_gain(paired_gain([0.1, 0.1], [0.9, 0.91])) == "loss"


def test_one_seed_has_no_interval_and_a_missing_figure_none_at_all() -> None:
    assert summarise_seeds([0.25]).low is None
    assert summarise_seeds([0.25, math.nan]).value is None
    assert summarise_seeds([]).value is None
    assert summarise_shares([0.0, 1.0]).low == 0.0
    assert summarise_shares([0.0, 1.0]).high == 1.0


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10), st.floats(-1, 1))
def test_a_shift_of_all_seeds_is_the_gain(values: list[float], shift: float) -> None:
    gain = paired_gain([value + shift for value in values], values)
    assert gain.value == pytest.approx(shift, abs=1e-5)
    assert gain.low == pytest.approx(shift, abs=1e-5)
