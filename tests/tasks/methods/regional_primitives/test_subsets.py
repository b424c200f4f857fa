"""Components from the features of sets: what the formula says, and what is true of it whatever the features are."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tailforge.tasks.methods.regional_primitives.subsets import (
    bits_of,
    count_dropped,
    list_dropped,
    subsets_of,
    to_components,
    to_features,
    worst_used,
)

sizes = st.integers(1, 6)
orders = st.one_of(st.none(), st.integers(1, 3))


def draw_features(players: int, order: int | None, seed: int) -> tuple[list[int], Tensor]:
    names = list_dropped(players, order)
    generator = torch.Generator().manual_seed(seed)
    return names, torch.randn(len(names), 3, generator=generator, dtype=torch.float64)


@given(sizes, orders)
def test_sets_are_listed_once_and_counted(players: int, order: int | None) -> None:
    names = list_dropped(players, order)
    assert len(set(names)) == len(names) == count_dropped(players, order)
    assert names[0] == 0
    assert all(name.bit_count() <= (order or players) for name in names)


def test_the_routes_ask_for_as_many_sets_as_the_page_says() -> None:
    assert count_dropped(9, None) == 512
    assert count_dropped(36, 2) == 667
    assert count_dropped(36, 3) == 7807


@settings(max_examples=30, deadline=None)
@given(sizes, orders, st.integers(0, 99))
def test_components_are_the_alternating_sums(players: int, order: int | None, seed: int) -> None:
    names, features = draw_features(players, order, seed)
    value = dict(zip(names, features.clone(), strict=True))
    components = to_components(features.clone(), names)
    assert torch.equal(components[0], value[0])
    for row, name in enumerate(names[1:], 1):
        parts = [*subsets_of(name), name]
        brute = -sum((-1) ** (name.bit_count() - part.bit_count()) * value[part] for part in parts)
        torch.testing.assert_close(components[row], brute, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(sizes, orders, st.integers(0, 99))
def test_features_come_back_from_components(players: int, order: int | None, seed: int) -> None:
    names, features = draw_features(players, order, seed)
    back = to_features(to_components(features.clone(), names), names)
    torch.testing.assert_close(back, features, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 99))
def test_low_orders_are_those_of_all_sets(players: int, order: int, seed: int) -> None:
    names, features = draw_features(players, None, seed)
    low = list_dropped(players, order)
    whole = to_components(features.clone(), names)
    few = to_components(features[low].clone(), low)
    torch.testing.assert_close(few, whole[low], rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(sizes, st.integers(0, 2**20), st.integers(0, 99))
def test_planted_components_are_found_and_no_others(players: int, choice: int, seed: int) -> None:
    names = list_dropped(players, None)
    planted = {name for i, name in enumerate(names[1:]) if choice >> i & 1}
    generator = torch.Generator().manual_seed(seed)
    parts = {name: torch.randn(3, generator=generator, dtype=torch.float64) for name in sorted(planted)}
    everyone = 2**players - 1
    features = torch.zeros(len(names), 3, dtype=torch.float64)
    for row, name in enumerate(names):
        for field, part in parts.items():
            if field & (everyone & ~name):
                features[row] += part
    found = to_components(features, names)
    for row, name in enumerate(names[1:], 1):
        expected = parts.get(name, torch.zeros(3, dtype=torch.float64))
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_components_grow_noise_with_the_root_of_their_sets() -> None:
    names = list_dropped(6, None)
    noise = torch.randn(len(names), 20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = to_components(noise, names)
    for size in range(1, 6):
        spread = np.mean([found[row].std().item() for row, name in enumerate(names) if name.bit_count() == size])
        assert spread == pytest.approx(2 ** (size / 2), rel=0.02)


@settings(max_examples=30, deadline=None)
@given(sizes, orders, st.integers(0, 99))
def test_a_component_rests_on_its_worst_set(players: int, order: int | None, seed: int) -> None:
    names = list_dropped(players, order)
    residuals = np.random.default_rng(seed).random(len(names))
    worst = worst_used(residuals, names)
    for row, name in enumerate(names):
        parts = [sum(drop) for size in range(len(bits_of(name)) + 1) for drop in combinations(bits(name), size)]
        assert worst[row] == max(residuals[names.index(part)] for part in parts)


def bits(name: int) -> list[int]:
    return [1 << bit for bit in bits_of(name)]
