"""Generator, pyramid, jitter and saving: published sizes, batches side by side as alone, exact round trips."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.nn import functional

from tailforge.schemas.settings.inversion import InversionSettings
from tailforge.tasks.methods.natural_inversion.generator import generate, grid_sizes, new_generator
from tailforge.tasks.methods.natural_inversion.jitter import Jitter, draw_jitter
from tailforge.tasks.methods.natural_inversion.pyramid import new_pyramid, refine
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.natural_inversion.taps import Tap

PUBLISHED_TAPS = [Tap("layer1", 64, (32, 32)), Tap("layer2", 128, (16, 16)), Tap("layer3", 256, (8, 8)),
                  Tap("layer4", 512, (4, 4))]  # fmt: skip
ODD_TAPS = [Tap("a", 3, (15, 13)), Tap("b", 5, (8, 7)), Tap("c", 4, (4, 4))]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def stacked(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def test_sizes_are_the_published_ones() -> None:
    generator = new_generator(1034, 3, (32, 32), 128, seeded())
    assert sum(value.numel() for value in generator.values()) == 8_702_467
    assert generator["linear"].shape == (8192, 1034)
    pyramid = new_pyramid(PUBLISHED_TAPS, 3, zero_start=False, random=seeded())
    assert sum(value.numel() for value in pyramid.values()) == 947_279


def test_weights_start_as_published() -> None:
    weights = new_generator(1034, 3, (32, 32), 128, seeded())
    assert float(weights["conv0"].std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert float(weights["linear"].abs().max()) == pytest.approx(1034**-0.5, rel=0.01)
    assert float(weights["scale0"].mean()) == pytest.approx(1, abs=0.01)
    assert float(weights["scale0"].std()) == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((32, 32), [(8, 8), (16, 16), (32, 32)]),
        ((28, 28), [(7, 7), (14, 14), (28, 28)]),
        ((8, 8), [(2, 2), (4, 4), (8, 8)]),
        ((64, 30), [(8, 4), (16, 8), (32, 15), (64, 30)]),
    ],
)
def test_the_first_grid_is_small(size: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert grid_sizes(size) == expected


@pytest.mark.parametrize("size", [(8, 8), (17, 12)])
def test_generators_side_by_side_equal_each_alone(size: tuple[int, int]) -> None:
    parts = [new_generator(6, 3, size, 16, seeded(seed)) for seed in range(3)]
    noise = torch.randn(3, 4, 6, generator=seeded(9))
    together = generate(stacked(parts), noise, size).unflatten(1, (3, 3))  # type: ignore[no-untyped-call]
    assert together.shape == (4, 3, 3, *size)
    for place, part in enumerate(parts):
        alone = generate(stacked([part]), noise[place : place + 1], size)
        torch.testing.assert_close(together[:, place], alone, rtol=1e-5, atol=1e-5)


def test_pyramids_side_by_side_equal_each_alone() -> None:
    parts = [new_pyramid(ODD_TAPS, 3, False, seeded(seed)) for seed in range(2)]
    features = [torch.randn(4, 2, tap.channels, *tap.size, generator=seeded(5)) for tap in ODD_TAPS]
    picture = torch.randn(4, 2, 3, 30, 26, generator=seeded(6))
    together = refine(stacked(parts), picture.flatten(1, 2), [feature.flatten(1, 2) for feature in features])
    for place, part in enumerate(parts):
        alone = refine(stacked([part]), picture[:, place], [feature[:, place] for feature in features])
        torch.testing.assert_close(together[:, 3 * place : 3 * place + 3], alone, rtol=1e-5, atol=1e-5)


def test_the_pyramid_is_the_published_sum() -> None:
    """Growing before the 1x1 convolution, as written in the paper, gives the same."""
    taps = [Tap("large", 4, (8, 8)), Tap("small", 6, (4, 4))]
    weights = new_pyramid(taps, 3, False, seeded())
    large, small = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)
    picture = torch.randn(2, 3, 8, 8)
    grown = functional.interpolate(small, scale_factor=2, mode="nearest")
    merged = functional.conv2d(grown, weights["lateral0"], weights["lateral0_bias"]) + large
    merged = functional.conv2d(merged, weights["smooth0"], weights["smooth0_bias"], padding=1)
    added = functional.conv2d(merged, weights["picture"], weights["picture_bias"])
    expected = torch.tanh(functional.conv2d(picture + added, weights["mix"], weights["mix_bias"]))
    torch.testing.assert_close(refine(stacked([weights]), picture, [large, small]), expected)


def test_the_zero_start_adds_nothing_but_learns() -> None:
    weights = {name: value.requires_grad_() for name, value in new_pyramid(ODD_TAPS, 3, True, seeded()).items()}
    picture = torch.randn(2, 3, 15, 13, requires_grad=True)
    features = [torch.randn(2, tap.channels, *tap.size) for tap in ODD_TAPS]
    refined = refine({name: value.unsqueeze(0) for name, value in weights.items()}, picture, features)
    torch.testing.assert_close(refined, torch.tanh(picture))
    refined.square().sum().backward()  # type: ignore[no-untyped-call]
    gradient = weights["picture"].grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0
    assert picture.grad is not None


@settings(max_examples=50)
@given(st.integers(-2, 2), st.integers(-2, 2), st.booleans())
def test_jitter_rolls_then_mirrors_and_can_be_undone(down: int, right: int, mirrored: bool) -> None:
    images = torch.arange(2 * 2 * 3 * 6 * 5, dtype=torch.float32).view(2, 2, 3, 6, 5)
    jitter = Jitter(torch.tensor([down, 0]), torch.tensor([right, 0]), torch.tensor([int(mirrored), 0]))
    moved = jitter.apply(images)
    expected = torch.roll(images[:, 0], (down, right), (2, 3))
    assert torch.equal(moved[:, 0], expected.flip(3) if mirrored else expected)
    assert torch.equal(moved[:, 1], images[:, 1])
    assert torch.equal(jitter.undo(moved, (6, 5)), images)


def test_coarse_maps_are_moved_back_by_their_own_pixels() -> None:
    features = torch.randn(1, 1, 2, 4, 4)
    jitter = Jitter(torch.tensor([-2]), torch.tensor([2]), torch.tensor([0]))
    assert torch.equal(jitter.undo(features, (8, 8)), torch.roll(features, (1, -1), (3, 4)))


def test_draws_reach_every_shift_and_both_sides() -> None:
    draws = draw_jitter(500, 2, True, seeded())
    assert draws.shape == (500, 2, 3)
    assert set(draws[..., :2].unique().tolist()) == {-2, -1, 0, 1, 2}
    assert set(draws[..., 2].unique().tolist()) == {0, 1}
    assert not torch.equal(draws[:, 0], draws[:, 1])
    assert int(draw_jitter(50, 0, False, seeded()).abs().sum()) == 0


@pytest.mark.parametrize(
    ("size", "reach"), [((32, 32), 2), ((28, 28), 2), ((64, 96), 4), ((224, 224), 14), ((8, 8), 1)]
)
def test_the_largest_shift_grows_with_the_side(size: tuple[int, int], reach: int) -> None:
    assert InversionSettings().reach(size) == reach
    assert InversionSettings(jitter=3).reach(size) == 3
    assert InversionSettings(preset="cifar10").reach(size) == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive_saving_bit_for_bit(channels: int) -> None:
    scale = PixelScale((0.1307, 0.4, 0.5)[:channels], (0.3081, 0.2, 0.3)[:channels], torch.device("cpu"))
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    images = scale.from_pixels(levels)
    assert images.shape == (1, channels, 16, 16)
    assert np.array_equal(scale.to_pixels(images), levels)
    assert torch.equal(scale.from_pixels(scale.to_pixels(images)), images)


def test_nothing_is_stretched_on_saving() -> None:
    scale = PixelScale((0.5,), (0.25,), torch.device("cpu"))
    flat = torch.full((1, 1, 2, 2), 0.4)  # 0.6 of white
    assert scale.to_pixels(flat)[0, 0, 0].tolist() == [153, 153, 153]
    assert scale.to_pixels(torch.full((1, 1, 1, 1), 9.0)).max() == 255


def test_the_loss_sees_the_saved_image_and_its_gradient_passes_through() -> None:
    scale = PixelScale((0.5, 0.4, 0.3), (0.25, 0.2, 0.3), torch.device("cpu"))
    images = (3 * torch.randn(4, 3, 5, 5, generator=seeded())).requires_grad_()
    saved = scale.save_through(images)
    assert torch.equal(saved, scale.from_pixels(scale.to_pixels(images)))
    (saved * 7).sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert bool((images.grad == 7).all())
