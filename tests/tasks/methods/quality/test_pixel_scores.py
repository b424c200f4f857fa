"""Scores of images with known answers, and a hash that follows what is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from tailforge.tasks.methods.quality.pixel_scores import perceptual_hash, score_image
from tailforge.tasks.methods.workshop import BALANCED, render, sample_scene

IMAGES = arrays(np.uint8, st.tuples(st.integers(3, 40), st.integers(3, 40), st.just(3)))


def hamming(one: int, other: int) -> int:
    """Bits in which two hashes differ."""
    return (one ^ other).bit_count()


def flat(value: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def scene(index: int) -> np.ndarray:
    return render(sample_scene(index, 7, BALANCED)).image


@pytest.mark.parametrize(("value", "clipped"), [(0, 1.0), (255, 1.0), (128, 0.0), (1, 0.0)])
def test_a_flat_image_is_blank(value: int, clipped: float) -> None:
    scores = score_image(flat(value))
    assert scores.is_blank
    assert scores.brightness == pytest.approx(value / 255)
    assert scores.contrast == pytest.approx(0, abs=1e-9)
    assert scores.clipped == clipped
    assert scores.sharpness == pytest.approx(0, abs=1e-9)
    assert scores.phash == 0


def test_a_chessboard_has_known_scores() -> None:
    board = np.where(np.indices((16, 16)).sum(0)[..., None] % 2, 255, 0).repeat(3, axis=2).astype(np.uint8)
    scores = score_image(board)
    assert scores.brightness == pytest.approx(0.5)
    assert scores.contrast == pytest.approx(0.5)
    assert scores.clipped == 1.0
    assert scores.sharpness == pytest.approx((4 * 255) ** 2)  # each Laplacian is +-4 * 255, their mean is 0
    assert not scores.is_blank


def test_colours_count_by_their_luma() -> None:
    green = np.zeros((4, 4, 3), np.uint8)
    green[..., 1] = 255
    assert score_image(green).brightness == pytest.approx(0.587)


def test_blur_lowers_sharpness_and_barely_moves_the_hash() -> None:
    sharp = scene(1)
    small = Image.fromarray(sharp).resize((32, 32), Image.Resampling.BOX)
    blurred = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC))
    assert score_image(blurred).sharpness < 0.6 * score_image(sharp).sharpness
    assert hamming(perceptual_hash(sharp), perceptual_hash(blurred)) <= 4


@pytest.mark.parametrize("index", range(6))
def test_hash_survives_resizing_and_compression_and_light(index: int) -> None:
    image = scene(index)
    larger = np.asarray(Image.fromarray(image).resize((160, 160), Image.Resampling.BILINEAR))
    lighter = (image * 0.8 + 20).astype(np.uint8)
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    for other in (larger, lighter, noisy):
        assert hamming(perceptual_hash(image), perceptual_hash(other)) <= 6


def test_different_scenes_are_far_apart() -> None:
    hashes = [perceptual_hash(scene(index)) for index in range(40)]
    distances = [hamming(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) > 6
    assert 24 <= np.mean(distances) <= 36


@given(image=IMAGES)
@settings(max_examples=50)
def test_any_image_has_finite_scores_in_range(image: np.ndarray) -> None:
    scores = score_image(image)
    assert 0 <= scores.brightness <= 1
    assert 0 <= scores.contrast <= 0.5 + 1e-9
    assert 0 <= scores.clipped <= 1
    assert 0 <= scores.sharpness < np.inf
    assert 0 <= scores.phash < 2**64
    assert scores == score_image(image.copy())


@pytest.mark.parametrize("size", [(3, 5), (31, 64), (33, 40), (64, 3), (97, 70)])
def test_scores_are_those_of_the_whole_image_however_many_strips_it_has(size: tuple[int, int]) -> None:
    image = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)
    luma = image @ np.array([0.299, 0.587, 0.114])
    inner = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    scores = score_image(image)
    assert scores.brightness == pytest.approx(luma.mean() / 255, rel=1e-12)
    assert scores.contrast == pytest.approx(luma.std() / 255, rel=1e-12)
    assert scores.clipped == ((luma < 0.5) | (luma > 254.5)).mean()
    assert scores.sharpness == pytest.approx(inner.var(), rel=1e-9)
    assert scores.phash == perceptual_hash(image)
