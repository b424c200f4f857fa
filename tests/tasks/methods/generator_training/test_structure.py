"""The structure distance: its bounds, what it does not see, and what unrelated features give."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.methods.generator_training.structure import (
    affinity,
    instance_distance,
    null_distance,
    structure_distance,
)


def features(seed: int, groups: int = 2, images: int = 8, width: int = 6) -> torch.Tensor:
    return torch.randn((groups, images, width), generator=torch.Generator().manual_seed(seed))


def test_a_small_case_by_hand() -> None:
    first = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    second = torch.tensor([[[3.0, 0.0], [1.0, 1.0]]])
    assert torch.allclose(affinity(second)[0, 0, 1], torch.tensor(math.sqrt(0.5)))
    assert structure_distance(first, second).tolist() == pytest.approx([0.5])
    assert instance_distance(first, second).tolist() == pytest.approx([(2 - math.sqrt(2)) / 2])


@given(st.integers(0, 999))
def test_bounds_and_invariances(seed: int) -> None:
    first, second = features(seed), features(seed + 1000)
    found = structure_distance(first, second)
    assert ((found >= 0) & (found <= 4)).all()
    assert torch.allclose(structure_distance(first, first), torch.zeros(2), atol=1e-9)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(structure_distance(first[:, order], second[:, order]), found, atol=1e-6)
    assert torch.allclose(structure_distance(5 * first, 0.1 * second), found, atol=1e-6)


def test_opposites_are_four_apart() -> None:
    same = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    against = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    assert structure_distance(same, against).tolist() == [4.0]


@pytest.mark.parametrize("width", [16, 64])
def test_unrelated_features_are_two_over_the_width_apart(width: int) -> None:
    found = null_distance(features(3, groups=40, images=32, width=width)).mean()
    assert found.item() == pytest.approx(2 / width, rel=0.1)


def test_no_pair_crosses_groups() -> None:
    first, second = features(1), features(2)
    other = torch.cat([second[:1], features(9)[1:]])
    assert structure_distance(first, other)[0] == structure_distance(first, second)[0]


def test_images_without_weight_do_not_count() -> None:
    first, second = features(1, groups=1), features(2, groups=1)
    weights = torch.tensor([[1.0] * 5 + [0.0] * 3])
    for distance in (structure_distance, instance_distance):
        assert torch.allclose(distance(first, second, weights), distance(first[:, :5], second[:, :5]), atol=1e-6)
        assert distance(first, second, torch.zeros_like(weights)).tolist() == [0.0]


@given(st.floats(0.01, 1))
def test_a_weight_that_all_share_scales_the_distance(weight: float) -> None:
    first, second = features(1), features(2)
    for distance in (structure_distance, instance_distance):
        found = distance(first, second, torch.full((2, 8), weight))
        assert torch.allclose(found, weight * distance(first, second), atol=1e-6)
