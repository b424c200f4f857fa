"""The rounds: a class that gains gets more, ties are even, costs count, and every end has its reason."""

from dataclasses import replace

import numpy as np
import pytest

from tailforge.tasks.methods.allocation.decide import FULL, LAST, NO_GAIN, SPENT, Rules, decide_round
from tailforge.tasks.methods.allocation.posterior import Beliefs, History
from tailforge.tasks.methods.allocation.thompson import choose_classes, count_chances, fit_budget, value_per_cost

RULES = Rules(batch=4, batches=50, rounds=9, limits=(10_000, 10_000), horizon=200, least_gain=0.02, seed=1)


def after(recalls: list[list[float]], kept: int = 40, validation: int = 60) -> History:
    rounds = [[kept] * len(recalls)] * (len(recalls[0]) - 1)
    return History(rounds, rounds, np.transpose(recalls).tolist(), [validation] * len(recalls))


def test_the_first_round_gives_each_class_one_batch() -> None:
    decision = decide_round(after([[0.2], [1.0]]), RULES, [1.0, 1.0], 0.0)
    assert (decision.images, decision.stop) == ((4, 4), None)


def test_a_class_that_gains_gets_more() -> None:
    decision = decide_round(after([[0.3, 0.5, 0.65], [0.3, 0.3, 0.3]]), RULES, [1.0, 1.0], 10_000)
    assert sum(decision.images) == 200
    assert decision.images[0] > 2 * decision.images[1] > 0
    assert decision.chance[0] > 0.7
    assert decision.chance.sum() == pytest.approx(1)


def test_equal_classes_share_a_round_about_evenly() -> None:
    decision = decide_round(after([[0.3, 0.4], [0.3, 0.4]]), RULES, [1.0, 1.0], 10_000)
    assert 60 < decision.images[0] < 140


def test_a_dearer_class_gets_less_and_so_does_one_whose_images_are_lost() -> None:
    history = after([[0.3, 0.4], [0.3, 0.4]])
    dear = decide_round(history, RULES, [1.0, 4.0], 10_000).images
    assert dear[0] > 2 * dear[1]
    lost = replace(history, kept=[[40, 10]])
    assert decide_round(lost, RULES, [1.0, 1.0], 10_000).chance[1] < 0.5


def test_equal_histories_have_equal_decisions_and_another_seed_another() -> None:
    history = after([[0.3, 0.4], [0.3, 0.4]])
    first, again, other = (
        decide_round(history, replace(RULES, seed=seed), [1.0, 1.0], 10_000).images for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("recalls", "changes", "left", "stop"),
    [
        ([[0.3, 0.4], [0.3, 0.4]], {"rounds": 1}, 10_000, LAST),
        ([[0.3, 0.4], [0.3, 0.4]], {"limits": (40, 40)}, 10_000, FULL),
        ([[0.3, 0.4], [0.3, 0.4]], {}, 3, SPENT),
        ([[1.0, 1.0], [0.99, 0.99]], {}, 10_000, NO_GAIN),
        ([[0.3, 0.4], [0.3, 0.4]], {}, 4, None),
        ([[0.3, 0.4], [0.3, 0.4]], {"least_gain": 1.0}, 10_000, NO_GAIN),
    ],
)
def test_steering_ends_for_a_reason(
    recalls: list[list[float]], changes: dict[str, object], left: float, stop: str | None
) -> None:
    decision = decide_round(after(recalls, validation=600), replace(RULES, **changes), [1.0, 1.0], left)  # type: ignore[arg-type]
    assert decision.stop == stop
    assert (sum(decision.images) == 0) == (stop is not None)
    assert sum(decision.images) <= left


def test_a_full_class_gets_nothing() -> None:
    decision = decide_round(after([[0.0, 0.0], [0.5, 0.5]]), replace(RULES, limits=(40, 41)), [1.0, 1.0], 10_000)
    assert decision.images == (0, 200)
    assert decision.chance.tolist() == [0.0, 1.0]


def test_beliefs_without_doubt_choose_the_better_class_always() -> None:
    sure = Beliefs(np.ones((2, 1)), np.array([[0.1], [0.2]]))
    assert choose_classes(sure, [True, True], 5, 0, 1).tolist() == [1] * 5
    assert choose_classes(value_per_cost(sure, np.ones(2), [1.0, 3.0]), [True, True], 2, 0, 1).tolist() == [0, 0]
    assert choose_classes(sure, [False, False], 5, 0, 1).size == 0
    assert count_chances(sure, [False, False], 0, 1).tolist() == [0, 0]
    with pytest.raises(ValueError, match="cost of an image is positive"):
        value_per_cost(sure, np.ones(2), [1.0, 0.0])


def test_chances_are_those_of_the_beliefs() -> None:
    """Class 0 is 0 or 1 with 3 to 1, class 1 is 0.5: class 0 is the better one in a quarter of all cases."""
    value = Beliefs(np.array([[0.75, 0.25], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.5, 9.0]]))
    assert count_chances(value, [True, True], 3, 1)[0] == pytest.approx(0.25, abs=0.03)


def test_batches_are_taken_in_order_while_the_budget_lasts() -> None:
    chosen = np.array([1, 0, 1])
    assert fit_budget(chosen, [1.0, 2.0], 3.0).tolist() == [1, 0]
    assert fit_budget(chosen, [0.1, 0.1], 0.1 + 0.1 + 0.1).tolist() == [1, 0, 1]
    assert fit_budget(chosen, [1.0, 2.0], -1.0).tolist() == []
