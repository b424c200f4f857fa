"""The order of a mixed epoch: exact shares in every batch, balanced classes, each sample once before any again."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.catalog.mixing.draws import cycle, draw_epoch, interleave, read_shares
from tailforge.schemas.errors import ReadingError


def test_shares_are_exact_fractions() -> None:
    assert read_shares([0.6, 0.4], 2) == (Fraction(3, 5), Fraction(2, 5))
    assert read_shares([1 / 3, 2 / 3], 2) == (Fraction(1, 3), Fraction(2, 3))


@pytest.mark.parametrize("shares", [[0.5], [0.5, 0.4], [1.0, 0.0], [1.5, -0.5], []])
def test_shares_that_are_none_are_refused(shares: list[float]) -> None:
    with pytest.raises(ReadingError, match="one share above 0 per dataset, with a sum of 1"):
        read_shares(shares, 2)


def test_the_pattern_is_spread_out() -> None:
    assert interleave((Fraction(3, 5), Fraction(2, 5)), 7).tolist() == [0, 1, 0, 1, 0, 0, 1]


@given(parts=st.lists(st.integers(1, 9), min_size=1, max_size=4), start=st.integers(0, 50), batches=st.integers(1, 3))
def test_every_stretch_of_whole_periods_holds_the_shares(parts: list[int], start: int, batches: int) -> None:
    shares, batch = [Fraction(part, sum(parts)) for part in parts], batches * sum(parts)
    found = interleave(shares, start + batch)[start:]
    assert [int((found == number).sum()) for number in range(len(parts))] == [batches * part for part in parts]


@given(part=st.integers(1, 99), start=st.integers(0, 200), batch=st.integers(1, 64))
def test_two_shares_are_off_by_less_than_one_sample_in_any_batch(part: int, start: int, batch: int) -> None:
    found = interleave([Fraction(part, 100), Fraction(100 - part, 100)], start + batch)[start:]
    assert abs(int((found == 0).sum()) - batch * part / 100) < 1


@given(members=st.integers(1, 20), count=st.integers(0, 70), seed=st.integers(0, 3))
def test_no_sample_comes_again_before_all_came(members: int, count: int, seed: int) -> None:
    found = cycle(np.arange(members), count, (seed,))
    for start in range(0, count, members):
        part = found[start : start + members].tolist()
        assert len(set(part)) == len(part)
        assert len(part) < members or set(part) == set(range(members))


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4), count=st.integers(0, 60))
def test_classes_of_a_dataset_differ_by_one_sample_at_most(sizes: list[int], count: int) -> None:
    """In the whole epoch, and each goes through all its samples."""
    cuts = np.cumsum([0, *sizes])
    groups = [np.arange(a, b) for a, b in pairwise(cuts.tolist())]
    order = draw_epoch([groups], [Fraction(1)], count, 7, 1)
    counts = [int(np.isin(order, group).sum()) for group in groups]
    assert max(counts) - min(counts) <= 1
    for group, found in zip(groups, counts, strict=True):
        times = Counter(order[np.isin(order, group)].tolist())
        assert max(times.values(), default=0) <= -(-found // len(group))


def test_an_order_belongs_to_its_seed_and_epoch() -> None:
    groups = [[np.arange(30)], [np.arange(30, 50)]]
    shares = (Fraction(1, 2), Fraction(1, 2))
    drawn = [draw_epoch(groups, shares, 40, seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) == 3
