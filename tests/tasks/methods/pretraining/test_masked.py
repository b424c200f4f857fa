"""Hidden patches: their number is fixed, regions come first, a part of each stays visible, and weights average one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tailforge.schemas.training.pretraining import MaskedSettings
from tailforge.tasks.methods.pretraining.masked import (
    build_masked,
    count_hidden,
    draw_noise,
    exact_ratio,
    outline_loss,
    train_masked,
    weighted_error,
)
from tailforge.tasks.methods.pretraining.regions import split_masks

TINY = MaskedSettings(steps=3, batch=4, patch_px=8, width=16, layers=1, heads=2, decoder_width=16)
PATCHES = 64


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def half_regions(batch: int) -> Tensor:
    """Shares of two regions: the first fills 16 patches, the second one patch in part."""
    shares = torch.zeros(batch, 2, PATCHES)
    shares[:, 0, :16] = 1.0
    shares[:, 1, 40], shares[:, 1, 41] = 0.3, 0.1
    return shares


def hidden_by(noise: Tensor, count: int) -> Tensor:
    return noise.argsort(1).argsort(1) >= noise.shape[1] - count


@given(st.integers(2, 400), st.floats(0.01, 0.99))
def test_as_many_patches_are_hidden_as_the_ratio_says(patches: int, ratio: float) -> None:
    hidden = count_hidden(patches, ratio)
    assert 1 <= hidden < patches
    assert abs(hidden - ratio * patches) <= 1
    assert int(patches * (1 - exact_ratio(patches, hidden))) == patches - hidden


@pytest.mark.parametrize(("ratio", "hidden"), [(0.75, 12), (0.6, 10), (0.3, 5)])
def test_the_model_hides_the_patches_of_the_highest_noise(ratio: float, hidden: int) -> None:
    model = build_masked(TINY.model_copy(update={"mask_ratio": ratio}), 32)
    noise = draw_noise(torch.zeros(3, 1, 16), 0.0, 0.0, draws())
    mask = model(torch.zeros(3, 3, 32, 32), noise=noise).mask.bool()
    assert mask.sum(1).tolist() == [hidden] * 3
    assert torch.equal(mask, hidden_by(noise, hidden))


def test_without_beta_and_floor_regions_change_nothing() -> None:
    plain = draw_noise(torch.zeros(5, 2, PATCHES), 3.0, 0.2, draws())
    assert torch.equal(draw_noise(half_regions(5), 0.0, 0.0, draws()), plain)
    assert not torch.equal(draw_noise(half_regions(5), 1.0, 0.0, draws()), plain)


def test_every_patch_is_as_likely_where_there_is_no_region() -> None:
    hidden = hidden_by(draw_noise(torch.zeros(4000, 1, 8), 0.0, 0.0, draws()), 6).float().mean(0)
    assert (hidden - 0.75).abs().max() < 0.03


def test_the_noise_is_that_of_gumbel() -> None:
    noise = draw_noise(torch.zeros(2000, 1, 64), 0.0, 0.0, draws())
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(torch.pi**2 / 6, rel=0.03)


def test_patches_of_regions_are_hidden_first_but_for_the_floor() -> None:
    shares, floor = half_regions(200), 0.125
    hidden = hidden_by(draw_noise(shares, 50.0, floor, draws()), 48)
    assert (~hidden[:, :16]).sum(1).tolist() == [2] * 200  # ceil of an eighth of 16, and no more
    assert not hidden[:, 40].any()  # the one patch that stands for the small region
    shown = (~hidden[:, :16]).float().mean(0)
    assert shown.min() > 0.05  # any of them
    without = hidden_by(draw_noise(shares, 50.0, 0.0, draws()), 48)
    assert without[:, :16].all()


def test_an_absent_region_keeps_nothing_visible() -> None:
    shares = torch.zeros(2, 2, PATCHES)
    assert torch.isfinite(draw_noise(shares, 1.0, 0.5, draws())).all()


def test_weights_of_the_error_average_one() -> None:
    generator = draws(3)
    drawn, targets = (torch.rand(2, 4, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    shares = torch.tensor([[[0.0, 1.0, 0.5, 1.0]], [[0.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    hidden = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    errors = ((drawn - targets) ** 2).mean(2)
    first = (1 * errors[0, 0] + 3 * errors[0, 1] + 2 * errors[0, 2]) / 6
    second = (errors[1, 0] + errors[1, 2]) / 2
    found = weighted_error(drawn, targets, hidden, shares, gamma=2.0)
    assert found.item() == pytest.approx(((first + second) / 2).item(), rel=1e-12)


@pytest.mark.parametrize("normalise", [True, False])
def test_without_regions_it_is_mae(normalise: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    settings = TINY.model_copy(update={"normalise": normalise})
    _, losses = train_masked(pixels, None, settings, None, lambda *_: None)
    changed = settings.model_copy(update={"beta": 9.0, "gamma": 5.0, "visible_floor": 0.5})
    assert torch.equal(train_masked(pixels, None, changed, None, lambda *_: None)[1], losses)
    regions = split_masks([np.tile(np.array([[1, 0]], np.uint8), (16, 8))] * 8, {1}, [{}] * 8)
    nothing = dict.fromkeys(("beta", "gamma", "visible_floor", "outline_weight"), 0.0)
    neither = settings.model_copy(update=nothing)
    # a wider last layer, of which nothing counts, rounds otherwise
    torch.testing.assert_close(train_masked(pixels, regions, neither, None, lambda *_: None)[1], losses)
    assert not torch.equal(train_masked(pixels, regions, settings, None, lambda *_: None)[1], losses)


def test_the_loss_of_plain_mae_is_that_of_transformers() -> None:
    pixels = torch.rand(4, 3, 32, 32, generator=draws()) * 2 - 1
    model = build_masked(TINY, 32)
    output = model(pixels, noise=draw_noise(torch.zeros(4, 1, 16), 0.0, 0.0, draws()))
    targets = model.patchify(pixels)
    targets = (targets - targets.mean(-1, keepdim=True)) / (targets.var(-1, keepdim=True) + 1e-6).sqrt()
    found = weighted_error(output.logits, targets, output.mask, torch.zeros(4, 1, 16), gamma=1.0)
    torch.testing.assert_close(found, output.loss)


def test_the_outlines_loss_is_that_of_the_formula() -> None:
    areas = np.zeros((2, 2, 4, 4), bool)  # four patches of 2 x 2
    areas[:, 1, :2, 2] = True
    areas[:, 0] = ~areas[:, 1]
    areas[:, 0, 3, 3] = False  # ignored
    drawn = torch.randn(2, 4, 4, dtype=torch.float64, generator=draws(4))
    picture = drawn.reshape(2, 2, 2, 2, 2).permute(0, 1, 3, 2, 4).reshape(2, 4, 4).sigmoid()  # as pixels lie
    errors = -torch.where(torch.from_numpy(areas[:, 1]), picture.log(), (1 - picture).log())
    errors[:, 3, 3] = 0
    expected = (0.5 * errors[0].mean() + 0.0 * errors[1].mean()) / 2
    found = outline_loss(drawn.float(), areas, torch.tensor([0.5, 0.0]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_outlines_are_learnt_from_masks_and_leave_no_trace_in_the_decoder() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    regions = split_masks([np.tile(np.array([[1, 0]], np.uint8), (16, 8))] * 8, {1}, [{}] * 8)
    plain = TINY.model_copy(update={"beta": 0.0, "gamma": 0.0, "visible_floor": 0.0})
    losses = {
        weight: train_masked(
            pixels, regions, plain.model_copy(update={"outline_weight": weight}), None, lambda *_: None
        )
        for weight in (0.0, 1.0, 2.0)
    }
    first = {weight: found[0].item() for weight, (_, found) in losses.items()}
    assert first[1.0] - first[0.0] == pytest.approx(np.log(2), abs=0.3)  # a guess at every pixel
    assert first[2.0] - first[1.0] == pytest.approx(first[1.0] - first[0.0], rel=1e-4)
    model = losses[1.0][0]
    assert model.decoder.decoder_pred.out_features == 3 * 8 * 8
    assert model(torch.zeros(1, 3, 16, 16)).loss.isfinite()
