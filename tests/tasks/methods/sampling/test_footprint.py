"""Bytes that tensors hold at most, counted by operations."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tailforge.tasks.methods.sampling.footprint import count_peak, count_weights

KILO = 256  # float32 numbers


def test_what_lives_at_one_time_counts() -> None:
    def run() -> None:
        first = torch.zeros(KILO)
        second = first + 1
        del first
        second = second + 1

    assert count_peak(run) == 2 * 1024


def test_views_and_operations_in_place_are_free() -> None:
    assert count_peak(lambda: torch.zeros(KILO).view(16, 16).t().add_(1)[:3]) == 1024


def test_what_was_made_before_is_not_counted() -> None:
    weight = torch.zeros(16, 16)
    assert count_peak(lambda: weight.t()) == 0
    assert count_peak(lambda: weight.t() + 1) == 1024


def test_types_have_their_sizes() -> None:
    assert count_peak(lambda: torch.zeros(KILO, dtype=torch.float16)) == 512


@given(st.lists(st.integers(1, 64), min_size=1, max_size=8))
def test_tensors_that_are_kept_add_up(sizes: list[int]) -> None:
    assert count_peak(lambda: [torch.zeros(size) for size in sizes]) == 4 * sum(sizes)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=8))
def test_of_tensors_that_are_dropped_the_largest_counts(sizes: list[int]) -> None:
    def run() -> None:
        for size in sizes:
            torch.zeros(size)

    assert count_peak(run) == 4 * max(sizes)


def test_shared_weights_count_once() -> None:
    layer = nn.Linear(16, 16)
    assert count_weights([layer, nn.Sequential(layer, nn.BatchNorm1d(16))]) == 4 * (16 * 17 + 4 * 16) + 8
