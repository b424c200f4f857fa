"""The guided filter against its equations pixel by pixel, and on images where its answer is known."""

import numpy as np
import pytest

from tailforge.tasks.methods.masks.guided_filter import filter_guided, resize


def by_the_equations(soft: np.ndarray, image: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Windows one by one, as equations 14 to 16 say; the border is repeated, as the method's means do."""
    rows, columns = soft.shape
    pad = 2 * radius
    wide, colours = np.pad(soft, pad, mode="edge"), np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    slopes, offsets = np.zeros((rows, columns, 3)), np.zeros((rows, columns))
    for y in range(rows):
        for x in range(columns):
            window = np.s_[y + radius : y + 3 * radius + 1, x + radius : x + 3 * radius + 1]
            own, level = colours[window].reshape(-1, 3), wide[window].ravel()
            covariance = np.cov(own.T, bias=True) + epsilon * np.eye(3)
            slopes[y, x] = np.linalg.solve(covariance, (own * level[:, None]).mean(0) - own.mean(0) * level.mean())
            offsets[y, x] = level.mean() - slopes[y, x] @ own.mean(0)
    out = np.zeros((rows, columns))
    for y in range(rows):
        for x in range(columns):
            near = np.s_[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            out[y, x] = slopes[near].reshape(-1, 3).mean(0) @ image[y, x] + offsets[near].mean()
    return out


def test_inner_pixels_follow_the_equations() -> None:
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (20, 24, 3)).astype(np.uint8)
    soft = draws.random((20, 24)).astype(np.float32)
    found = filter_guided(soft, pixels, (20, 24), 2, 1e-2)
    expected = by_the_equations(soft, pixels / 255, 2, 1e-2)
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-4)


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (9, 7)])
def test_a_flat_image_gives_a_smooth_map_and_a_constant_stays(size: tuple[int, int]) -> None:
    flat = np.full((*size, 3), 90, np.uint8)
    np.testing.assert_allclose(filter_guided(np.full((4, 4), 0.3), flat, (8, 6), 3, 1e-3), 0.3, atol=1e-5)
    soft = np.zeros((8, 8), np.float32)
    soft[:, 4:] = 1
    found = filter_guided(soft, flat, size, 4, 1e-3)
    assert found.shape == size
    assert np.abs(np.diff(found, axis=1)).max() < 0.6


def test_a_large_image_costs_no_larger_fit() -> None:
    truth = np.zeros((256, 256), bool)
    truth[60:190, 70:200] = True
    pixels = np.where(truth[..., None], np.uint8(200), np.uint8(60)).repeat(3, axis=2)
    soft = resize(truth.astype(np.float32), 16, 16)
    found = filter_guided(soft, pixels, (64, 64), 12, 3e-4) > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.98
