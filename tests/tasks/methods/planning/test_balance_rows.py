"""Rows of a design: single values even at every length, pairs nearly so, hardly a repeat while there is room."""

from collections import Counter
from itertools import combinations
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.tasks.methods.planning.balance_rows import balance_rows, take_turns

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def even(sizes: list[int]) -> list[list[float]]:
    return [[1.0] * size for size in sizes]


@given(sizes=SIZES, count=st.integers(1, 60), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=60)
def test_every_beginning_uses_every_value_equally_often(sizes: list[int], count: int, seed: int) -> None:
    rows = balance_rows(even(sizes), count, seed)
    assert rows.shape == (count, len(sizes))
    for length in range(1, count + 1):
        for column, size in enumerate(sizes):
            times = np.bincount(rows[:length, column], minlength=size)
            assert times.max() - times.min() <= 1


@given(sizes=SIZES, count=st.integers(1, 40), more=st.integers(0, 200), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_more_rows_do_not_change_the_first_ones(sizes: list[int], count: int, more: int, seed: int) -> None:
    assert (balance_rows(even(sizes), count + more, seed)[:count] == balance_rows(even(sizes), count, seed)).all()


@given(sizes=SIZES, seed=st.integers(0, 99))
@settings(max_examples=60)
def test_rows_hardly_repeat_in_the_first_third_and_all_come_in_the_end(sizes: list[int], seed: int) -> None:
    possible = prod(sizes)
    rows = [tuple(row) for row in balance_rows(even(sizes), 4 * possible, seed)]
    third = max(1, possible // 3)
    assert len(set(rows[:third])) >= 0.97 * third
    assert len(set(rows)) == possible


@pytest.mark.parametrize("sizes", [[1, 6, 5], [1, 4, 4], [3, 6, 5], [1, 3, 3, 3]])
def test_pairs_are_even_after_as_many_rows_as_there_are_pairs(sizes: list[int]) -> None:
    for one, other in combinations(range(len(sizes)), 2):
        pairs = sizes[one] * sizes[other]
        times = Counter((row[one], row[other]) for row in balance_rows(even(sizes), pairs, 7))
        assert max(times.values()) <= 2
        assert len(times) >= 0.8 * pairs


def test_other_seed_gives_another_order() -> None:
    weights = even([1, 6, 5])
    assert (balance_rows(weights, 20, 1) == balance_rows(weights, 20, 1)).all()
    assert (balance_rows(weights, 20, 1) != balance_rows(weights, 20, 2)).any()


@given(weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=6), count=st.integers(1, 200))
def test_turns_stay_in_proportion_to_the_weights(weights: list[float], count: int) -> None:
    shares, values = np.array(weights) / sum(weights), len(weights)
    times = np.bincount(take_turns(weights, count), minlength=values)
    # Webster's method rounds each value by at most a half, and what all others were rounded by counts by the share.
    most = (1 + shares * (values - 2)) / 2
    assert (np.abs(times - shares * count) <= most + 1e-9).all()


def test_a_large_weight_may_miss_its_quota_by_more_than_two() -> None:
    weights = [4.75, 0.125, 0.109375, 0.109375, 0.109375, 0.109375]
    assert np.bincount(take_turns(weights, 75)).tolist() == [65, 2, 2, 2, 2, 2]


def test_weights_hold_inside_a_design() -> None:
    rows = balance_rows([[1.0], [3.0, 1.0], [1.0, 1.0, 2.0]], 400, 3)
    assert np.bincount(rows[:, 1]).tolist() == [300, 100]
    assert np.bincount(rows[:, 2]).tolist() == [100, 100, 200]
    assert abs(int(((rows[:, 1] == 0) & (rows[:, 2] == 2)).sum()) - 150) <= 5
