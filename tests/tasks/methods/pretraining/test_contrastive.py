"""The contrastive losses against loops in float64: same nouns are no negatives, small regions are dropped."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tailforge.schemas.training.pretraining import ContrastiveSettings
from tailforge.tasks.methods.pretraining.contrastive import (
    Kept,
    Prepared,
    TwoHeads,
    instance_loss,
    keep_regions,
    pool_regions,
    region_negatives,
    train_contrastive,
)
from tailforge.tasks.methods.pretraining.regions import ABSENT, BACKGROUND, Regions, split_masks

TINY = ContrastiveSettings(steps=3, batch=4, patch_px=8, width=16, layers=1, heads=2, hidden=16, projection=8)


def unit(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 5, dtype=torch.float64, generator=generator), dim=1)


def test_the_regions_loss_is_that_of_the_formula() -> None:
    images, nouns = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 3, 0, 3, 5])
    queries, keys, tau = unit(5, 1), unit(5, 2), 0.2
    weights = torch.tensor([1.0, 0.5, 1.0, 0.7, 0.9], dtype=torch.float64)
    total = 0.0
    for j in range(5):
        own = math.exp(float(queries[j] @ keys[j]) / tau)
        others = 0.0
        for n in range(5):
            if n == j:
                continue
            if images[n] == images[j] or nouns[n] != nouns[j]:
                others += math.exp(float(queries[j] @ keys[n]) / tau)
        total -= float(weights[j]) * math.log(own / (own + others)) / 5
    found = instance_loss(queries, keys, region_negatives(images, nouns), weights, tau)
    assert found.item() == pytest.approx(total, rel=1e-12)


def test_the_images_loss_takes_every_other_image() -> None:
    queries, keys = unit(4, 3), unit(4, 4)
    every = torch.ones(4, 4, dtype=torch.bool)
    expected = F.cross_entropy(queries @ keys.T / 0.1, torch.arange(4))
    found = instance_loss(queries, keys, every, torch.ones(4, dtype=torch.float64), 0.1)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_same_noun_of_another_image_is_no_negative() -> None:
    images, nouns = torch.tensor([0, 0, 1, 1]), torch.tensor([BACKGROUND, 7, BACKGROUND, 7])
    assert region_negatives(images, nouns).int().tolist() == [
        [0, 1, 0, 1],
        [1, 0, 1, 0],
        [0, 1, 0, 1],
        [1, 0, 1, 0],
    ]


def test_without_a_region_there_is_no_loss() -> None:
    nothing = torch.zeros(0, 5, requires_grad=True)
    loss = instance_loss(nothing, nothing, torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0), 0.2)
    assert loss.item() == 0
    loss.backward()


def test_features_are_pooled_by_share() -> None:
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])
    shares = torch.tensor([[[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]]])
    expected = torch.tensor([[[2 / 3, 1 / 3], [0.0, 0.0]]])
    torch.testing.assert_close(pool_regions(features, shares), expected, atol=1e-5, rtol=0)


def test_a_region_that_fills_less_than_a_patch_of_either_view_is_dropped() -> None:
    regions = Regions(
        np.zeros((3, 3, 8, 8), bool),
        np.array([[BACKGROUND, 1, 2], [BACKGROUND, 1, ABSENT], [BACKGROUND, 4, 1]], np.int64),
        np.full((3, 3), 0.5, np.float32),
    )
    first = torch.tensor([[3.0, 1.0, 0.9], [3.0, 1.0, 2.0], [0.0, 2.0, 2.0]])[..., None]
    second = torch.tensor([[3.0, 1.0, 2.0], [3.0, 0.5, 2.0], [3.0, 2.0, 2.0]])[..., None]
    pixels = torch.zeros(2, 3, 8, 8)
    rows = np.array([0, 1, 2])
    kept: Kept = keep_regions(regions, rows, [Prepared(pixels, first), Prepared(pixels, second)])
    assert kept.chosen.int().tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 1]]
    assert kept.scores.tolist() == [0.5] * 5
    assert kept.negatives.shape == (5, 5)


def test_the_momentum_branch_is_the_average_and_gets_no_gradient() -> None:
    network = TwoHeads(TINY, 16)
    output = network(torch.zeros(2, 3, 16, 16), torch.ones(2, 1, 4), predict=True)
    assert output.images.shape == (2, 8)
    assert output.regions.shape == (2, 1, 8)
    torch.testing.assert_close(output.images.norm(dim=1), torch.ones(2))


def test_without_regions_their_weight_means_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    losses = [
        train_contrastive(pixels, None, TINY.model_copy(update={"region_weight": weight}), None, lambda *_: None)[1]
        for weight in (0.0, 5.0)
    ]
    assert torch.equal(*losses)
    masks = [np.tile(np.array([[1, 0]], np.uint8), (16, 8))] * 8
    regions = split_masks(masks, {1}, [{}] * 8)
    with_regions = train_contrastive(pixels, regions, TINY, None, lambda *_: None)[1]
    without = train_contrastive(pixels, regions, TINY.model_copy(update={"region_weight": 0.0}), None, lambda *_: None)[
        1
    ]
    torch.testing.assert_close(without, losses[0])
    assert (with_regions > without).all()
