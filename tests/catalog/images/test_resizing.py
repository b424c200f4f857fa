"""Images and masks brought to a size: exact geometry for crop, pad and stretch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tailforge.catalog.images.resizing import place_inside, resize_image, resize_mask

SIDES = st.integers(1, 60)


def halves(height: int, width: int, across: bool = True) -> np.ndarray:
    """1 on the left and 2 on the right, or above and below."""
    mask = np.ones((height, width), np.uint8)
    mask[(slice(None), slice(width // 2, None)) if across else slice(height // 2, None)] = 2
    return mask


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((40, 24), (32, 32), (0, 6, 32, 19)),
        ((24, 40), (32, 32), (6, 0, 19, 32)),
        ((40, 24), (80, 48), (0, 0, 80, 48)),
        ((40, 24), (40, 64), (0, 20, 40, 24)),
        ((10, 10), (4, 8), (0, 2, 4, 4)),
        ((1, 1000), (24, 24), (11, 0, 1, 24)),
    ],
)
def test_pad_keeps_proportions_and_the_middle(
    shape: tuple[int, int], size: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    assert place_inside(shape, size) == expected
    top, left, height, width = expected
    padded = np.asarray(resize_image(Image.new("L", shape[::-1], 200), size, "pad"))
    assert padded.shape == size
    inside = np.zeros(size, bool)
    inside[top : top + height, left : left + width] = True
    assert (padded == np.where(inside, 200, 0)).all()
    assert (resize_mask(np.full(shape, 7, np.uint8), size, "pad") == np.where(inside, 7, 0)).all()


def test_pad_of_a_small_photograph_upright() -> None:
    """24 wide and 40 high into 80 x 80: doubled, with 16 columns of black on both sides."""
    padded = resize_mask(halves(40, 24), (80, 80), "pad")
    assert np.array_equal(padded, np.pad(halves(80, 48), ((0, 0), (16, 16))))


def test_crop_covers_and_keeps_the_middle() -> None:
    mask = np.zeros((40, 24), np.uint8)
    mask[8:32] = halves(24, 24)
    assert np.array_equal(resize_mask(mask, (24, 24), "crop"), halves(24, 24))
    assert np.array_equal(resize_mask(mask, (48, 48), "crop"), halves(48, 48))


def test_stretch_scales_both_sides_alone() -> None:
    assert np.array_equal(resize_mask(halves(40, 24), (20, 48), "stretch"), halves(20, 48))
    assert np.array_equal(resize_mask(halves(40, 24, across=False), (80, 6), "stretch"), halves(80, 6, across=False))


def test_exact_changes_nothing() -> None:
    image = Image.new("RGB", (24, 40), (1, 2, 3))
    assert resize_image(image, (32, 32), "exact") is image
    mask = halves(40, 24)
    assert np.array_equal(resize_mask(mask, (8, 8), "exact"), mask)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["crop", "pad", "stretch"]), st.sampled_from(["L", "RGB"]))
def test_every_fit_gives_the_size_and_keeps_the_mode(
    height: int, width: int, tall: int, wide: int, fit: str, mode: str
) -> None:
    image = resize_image(Image.new(mode, (width, height), "white"), (tall, wide), fit)  # type: ignore[arg-type]
    assert (image.size, image.mode) == ((wide, tall), mode)
    mask = resize_mask(np.full((height, width), 9, np.uint8), (tall, wide), fit)  # type: ignore[arg-type]
    assert mask.shape == (tall, wide)
    assert set(np.unique(mask).tolist()) <= {0, 9}
    if fit != "pad":
        assert (mask == 9).all()


@given(SIDES, SIDES, st.sampled_from(["crop", "pad", "stretch"]))
def test_the_own_size_changes_nothing(height: int, width: int, fit: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)
    same = resize_image(Image.fromarray(pixels), (height, width), fit)  # type: ignore[arg-type]
    assert np.array_equal(np.asarray(same), pixels)
