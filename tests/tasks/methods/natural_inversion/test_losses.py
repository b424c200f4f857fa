"""Loss terms against numbers worked out by hand; norms are not squared, variances are biased, groups are strangers."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tailforge.schemas.settings.inversion import InversionSettings
from tailforge.tasks.methods.natural_inversion.losses import (
    cross_entropy,
    image_norm,
    inversion_losses,
    relative_statistics_distance,
    statistics_distance,
    total_variation,
)
from tailforge.tasks.methods.natural_inversion.taps import Pass
from tests.support.repository import ROOT

RUNNING = {"a": (torch.tensor([0.0, 0.0]), torch.tensor([1.0, 4.0])), "b": (torch.tensor([1.0]), torch.tensor([9.0]))}


def crop_of_renders() -> Image.Image:
    """Return 224 x 224 pixels of images of the workshop."""
    return Image.open(ROOT / "docs" / "images" / "demo.png").convert("RGB").crop((0, 0, 224, 224))


def like_a_photograph(seed: int) -> Image.Image:
    """Return noise of 224 x 224 pixels with amplitudes of 1 / frequency, as photographs have (Field 1987)."""
    side = 224
    spectrum = np.fft.rfft2(np.random.default_rng(seed).normal(size=(side, side, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    picture = np.fft.irfft2(spectrum / frequency[..., None], (side, side), axes=(0, 1))
    return Image.fromarray((128 + 50 * picture / picture.std()).clip(0, 255).astype(np.uint8))


def as_batch(picture: Image.Image, side: int) -> Tensor:
    """Return a picture of this side as a normalised batch [1, 1, 3, side, side]."""
    small = np.asarray(picture.resize((side, side), Image.Resampling.BOX), np.float32)
    return torch.from_numpy(small / 127.5 - 1).permute(2, 0, 1)[None, None]


def running(name: str) -> tuple[Tensor, Tensor]:
    return RUNNING[name]


STATISTICS = [
    ("a", torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[1.0, 4.0], [7.0, 12.0]])),
    ("b", torch.tensor([[1.0], [3.0]]), torch.tensor([[9.0], [0.0]])),
]


def test_statistics_distance_is_a_sum_of_norms() -> None:
    assert statistics_distance(STATISTICS, running).tolist() == [5.0, 10.0 + 2.0 + 9.0]


def test_relative_distance_is_per_layer_and_a_mean() -> None:
    first = 5 / math.sqrt(5) / 2  # running deviations 1 and 2
    second = (10 / math.sqrt(17) + 2 / 3 + 1) / 2
    torch.testing.assert_close(relative_statistics_distance(STATISTICS, running), torch.tensor([first, second]))


def test_relative_distance_does_not_change_with_the_scale_of_a_layer() -> None:
    scaled = [(name, 10 * mean, 100 * variance) for name, mean, variance in STATISTICS]
    large = {name: (10 * mean, 100 * variance) for name, (mean, variance) in RUNNING.items()}
    torch.testing.assert_close(
        relative_statistics_distance(scaled, large.__getitem__), relative_statistics_distance(STATISTICS, running)
    )


def test_total_variation_of_one_bright_pixel() -> None:
    images = torch.zeros(1, 2, 1, 3, 3)
    images[0, 0, 0, 1, 1] = 2.0  # two differences of 2 in each of four directions
    assert total_variation(images).tolist() == pytest.approx([4 * math.sqrt(8), 0])


def test_total_variation_counts_each_direction_once() -> None:
    across = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).view(1, 1, 1, 2, 2)
    assert total_variation(across).tolist() == pytest.approx([math.sqrt(2) + 0 + 1 + 1])


def test_norms_are_those_of_the_whole_batch() -> None:
    assert image_norm(torch.full((3, 1, 1, 2, 2), 2.0)).tolist() == pytest.approx([math.sqrt(48)])
    images = torch.randn(4, 2, 3, 5, 5)
    torch.testing.assert_close(image_norm(torch.cat([images, images])), image_norm(images) * math.sqrt(2))


def test_cross_entropy_is_a_mean_over_the_batch() -> None:
    logits = torch.zeros(2, 1, 4)
    logits[0, 0, 1] = math.log(3)  # 3 / 6
    assert cross_entropy(logits, torch.tensor([[1], [2]])).tolist() == pytest.approx([(math.log(2) + math.log(4)) / 2])


@pytest.mark.parametrize("scale_free", [False, True])
def test_the_total_weighs_the_terms(scale_free: bool) -> None:
    settings = InversionSettings(
        scale_free=scale_free, statistics_weight=2, variation_weight=3, norm_weight=5, batch_size=4
    )
    images = torch.randn(4, 2, 1, 8, 32)
    losses = losses_of(images, settings)
    parts = losses["cross_entropy"] + 2 * losses["statistics"] + 3 * losses["variation"] + 5 * losses["norm"]
    torch.testing.assert_close(losses["total"], parts)
    grown = 16 if scale_free else 1  # the root of (256 * 32 * 32) / (4 * 8 * 32)
    torch.testing.assert_close(losses["norm"], grown * image_norm(images))
    torch.testing.assert_close(losses["variation"], grown * total_variation(images))


def losses_of(images: Tensor, settings: InversionSettings) -> dict[str, Tensor]:
    labels = torch.zeros(images.shape[:2], dtype=torch.int64)
    return inversion_losses(images, labels, Pass(torch.randn(*labels.shape, 3), STATISTICS), running, settings)


def test_regularisers_have_the_published_values_at_the_published_size() -> None:
    images = torch.randn(256, 1, 3, 32, 32)
    ours, published = (losses_of(images, InversionSettings(scale_free=free)) for free in (True, False))
    for term in ("variation", "norm"):
        torch.testing.assert_close(ours[term], published[term], rtol=0, atol=0)


@pytest.mark.parametrize("picture", [crop_of_renders(), *(like_a_photograph(seed) for seed in range(3))])
def test_a_larger_copy_of_a_picture_is_regularised_alike(picture: Image.Image) -> None:
    """Not scale-free, the norm of a picture 7 times as large is more than 7 times as large."""
    small, large = (losses_of(as_batch(picture, side), InversionSettings()) for side in (32, 224))
    assert 0.9 < float(large["norm"][0] / small["norm"][0]) < 1.5
    assert 0.4 < float(large["variation"][0] / small["variation"][0]) < 1.5
    raw = [float(image_norm(as_batch(picture, side))[0]) for side in (32, 224)]
    assert raw[1] > 7 * raw[0]


def test_no_loss_has_an_undefined_gradient_where_it_is_zero() -> None:
    images = torch.zeros(2, 1, 1, 4, 4, requires_grad=True)
    (total_variation(images) + image_norm(images)).sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert images.grad.isfinite().all()
