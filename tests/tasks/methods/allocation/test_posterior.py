"""What a class gains per image: the prior, a rise, certainty, and yields."""

import math

import numpy as np
import pytest

from tailforge.tasks.methods.allocation.posterior import History, estimate_gains, estimate_yields

HORIZON = 200


def rise(recalls: list[list[float]], kept: int = 40, validation: int = 60) -> History:
    """Return a history in which each class keeps `kept` images per round; one list of recalls per class."""
    rounds = [[kept] * len(recalls)] * (len(recalls[0]) - 1)
    return History(rounds, rounds, np.transpose(recalls).tolist(), [validation] * len(recalls))


def test_before_any_round_the_prior_halves_the_errors_after_the_horizon() -> None:
    beliefs = estimate_gains(rise([[0.4], [0.7]], validation=10**6), HORIZON)
    expected = [math.log(2) / HORIZON * errors for errors in (0.6, 0.3)]
    assert beliefs.mean == pytest.approx(expected, rel=0.03)
    assert beliefs.deviation == pytest.approx(beliefs.mean, rel=0.1)  # of an exponential distribution, cut by the grid
    assert beliefs.weights.sum(1) == pytest.approx([1, 1])


def test_a_rise_raises_the_belief_and_none_lowers_it() -> None:
    gaining, idle, falling = estimate_gains(rise([[0.3, 0.5, 0.65], [0.3] * 3, [0.3, 0.2, 0.1]]), HORIZON).mean
    (prior,) = estimate_gains(rise([[0.3]]), HORIZON).mean
    assert gaining > 2 * idle > 0
    assert idle < prior / 2
    assert falling < idle


def test_more_validation_images_make_the_belief_surer() -> None:
    few, many = (estimate_gains(rise([[0.3, 0.45, 0.55]], validation=count), HORIZON) for count in (8, 800))
    assert many.deviation[0] < few.deviation[0] / 2


def test_the_gain_of_a_known_curve_is_found() -> None:
    images, rate, errors = np.arange(6) * 40, 0.008, 0.7
    curve = [1 - errors * math.exp(-rate * each) for each in images]
    beliefs = estimate_gains(rise([curve], validation=20_000), HORIZON)
    assert beliefs.mean[0] == pytest.approx(rate * errors * math.exp(-rate * 200), rel=0.05)


def test_a_class_without_errors_gains_nothing_and_one_with_no_hits_much() -> None:
    perfect, lost = estimate_gains(rise([[1.0], [0.0]], validation=1000), HORIZON).mean
    assert perfect < 0.0001 < 0.003 < lost


def test_yields_are_kept_per_drawn_images() -> None:
    history = History([[8, 8], [8, 0]], [[8, 0], [8, 0]], [[0.5, 0.5]] * 3, [10, 10])
    assert estimate_yields(history) == pytest.approx([17 / 18, 1 / 10])
    assert estimate_yields(History([], [], [[0.5]], [10])) == pytest.approx([0.5])
