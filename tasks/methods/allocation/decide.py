"""Decide the next round: images per class, the beliefs behind them, and whether to end. Our rules; see `decide_round`.

Letters of shapes: K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailforge.tasks.methods.allocation.posterior import Floats, History, estimate_gains, estimate_yields
from tailforge.tasks.methods.allocation.thompson import choose_classes, count_chances, fit_budget, value_per_cost

FULL, SPENT, LAST, NO_GAIN = "full", "budget", "rounds", "gain"  # why steering ended
PER = 100  # drawn images, for which gains are told


@dataclass(frozen=True)
class Rules:
    """Settings of all rounds.

    `batch`: images of one batch; `batches`: of a round; `rounds`: most rounds; `limits`: most kept images per class
    [K]. `horizon`: as `estimate_gains`. `least_gain`: of a class's recall per PER drawn images, for which a round pays.
    """

    batch: int
    batches: int
    rounds: int
    limits: tuple[int, ...]
    horizon: int
    least_gain: float
    seed: int


@dataclass(frozen=True)
class Decision:
    """One round before it begins.

    `images`: to draw per class; `mean`, `deviation`: of the gain of recall per kept image; `chance`: to be the best
    class; all [K]. `expected`, `spread`: recall that PER images of the round are expected to add to a class, and its
    standard deviation.
    `stop`: why no image is drawn; None for a round that is drawn.
    """

    images: tuple[int, ...]
    mean: Floats
    deviation: Floats
    chance: Floats
    expected: float
    spread: float
    stop: str | None


def decide_round(history: History, rules: Rules, costs: Sequence[float], left: float) -> Decision:
    """Return the next round. `costs`: of one drawn image per class [K]; `left`: of the budget, in the same unit.

    The first round gives one batch to each class, so that each is measured once. A later round ends steering if even
    one standard deviation above its expected gain does not reach `least_gain`.
    """
    # Beliefs on the gain per image, and per unit of cost.
    gains, yields = estimate_gains(history, rules.horizon), estimate_yields(history)
    value, number = value_per_cost(gains, yields, costs), history.rounds
    is_open = [kept < limit for kept, limit in zip(history.total_kept, rules.limits, strict=True)]

    # The batches of the round, as far as the budget goes.
    whole = np.arange(len(costs)) if not number else choose_classes(value, is_open, rules.batches, rules.seed, number)
    chosen = whole if not number else fit_budget(whole, [rules.batch * each for each in costs], left)
    images = rules.batch * np.bincount(chosen, minlength=len(costs))

    # What the round promises; the gains of classes are independent.
    per = PER / max(int(images.sum()), 1)
    expected = float((images * yields * gains.mean).sum()) * per
    spread = float(np.sqrt(((images * yields * gains.deviation) ** 2).sum())) * per
    stop = _find_end(number, rules, is_open, len(chosen), expected + spread)
    drawn = images * (stop is None)
    chance = count_chances(value, is_open, rules.seed, number)
    return Decision(tuple(drawn.tolist()), gains.mean, gains.deviation, chance, expected, spread, stop)


def _find_end(number: int, rules: Rules, is_open: Sequence[bool], batches: int, promise: float) -> str | None:
    # The first round is always drawn, since nothing is measured before it.
    if number == 0:
        return None
    if number >= rules.rounds:
        return LAST
    if not any(is_open):
        return FULL
    if not batches:
        return SPENT
    return NO_GAIN if promise < rules.least_gain else None
