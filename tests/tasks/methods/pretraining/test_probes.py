"""The probes find what is there, call nothing found that is not, and do not depend on the features' scale."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tailforge.tasks.methods.pretraining.probes import Split, probe_linear, probe_neighbours, read_features

CLASSES = 3


def draw_split(count: int, seed: int, noise: float = 0.5) -> Split:
    """Three clouds of points; two further features are noise of a much larger scale."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(CLASSES, size=count)
    centres = 3 * np.eye(CLASSES)[labels]
    points = centres + noise * draws.normal(size=(count, CLASSES))
    return Split(np.concatenate([points, 100 * draws.normal(size=(count, 2))], axis=1).astype(np.float32), labels)


def share(found: np.ndarray, labels: np.ndarray) -> float:  # type: ignore[type-arg]
    return float((found == labels).mean())


def test_a_line_tells_clouds_apart_whatever_their_scale() -> None:
    training, test = draw_split(300, 1), draw_split(200, 2)
    found = probe_linear(training, test)
    assert share(found, test.labels) > 0.97
    scale = np.array([1, 100, 0.01, 5, 1], np.float32)
    other = probe_linear(Split(training.features * scale, training.labels), Split(test.features * scale, test.labels))
    assert np.array_equal(other, found)


def test_a_feature_that_never_changes_is_no_error() -> None:
    training, test = draw_split(60, 1), draw_split(20, 2)
    constant = [Split(np.pad(each.features, ((0, 0), (0, 1))), each.labels) for each in (training, test)]
    assert np.isfinite(probe_linear(*constant)).all()


def test_neighbours_tell_clouds_apart() -> None:
    training, test = draw_split(300, 1), draw_split(200, 2)
    near = [Split(each.features[:, :CLASSES], each.labels) for each in (training, test)]
    assert share(probe_neighbours(*near), test.labels) > 0.97
    assert share(probe_neighbours(training, test), test.labels) < 0.6  # the noise outweighs: cosine knows no scale


def test_neighbours_by_hand() -> None:
    training = Split(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32), np.array([2, 2, 0, 1]))
    test = Split(np.array([[5, 0.2], [0, 3], [1, 1.1]], np.float32), np.array([0, 0, 0]))
    assert probe_neighbours(training, test, 2).tolist() == [2, 0, 1]
    assert probe_neighbours(training, test, 1).tolist() == [2, 0, 1]


def test_random_labels_are_not_found() -> None:
    training, test = draw_split(300, 1), draw_split(300, 2)
    mixed = Split(training.features, np.random.default_rng(3).permutation(training.labels))
    assert share(probe_linear(mixed, test), test.labels) < 0.55


class Patches(nn.Module):
    """Reads each patch of 4 x 4 pixels as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def tokens(self, pixels: Tensor) -> Tensor:
        patches = pixels.unfold(2, 4, 4).unfold(3, 4, 4)  # [B, 3, 2, 2, 4, 4]
        return self.scale * patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def draw_outlines(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    draws = np.random.default_rng(seed)
    masks = np.zeros((count, 8, 8), bool)
    for mask in masks:
        top, left = draws.integers(0, 5, size=2)
        mask[top : top + 3, left : left + 4] = True
    noise = draws.integers(0, 60, (count, 8, 8, 3))
    return (noise + 150 * masks[..., None]).astype(np.uint8), masks


def test_features_are_the_mean_of_the_tokens() -> None:
    pixels, _ = draw_outlines(300, 4)
    features = read_features(Patches().tokens, pixels)
    assert features.shape == (300, 48)
    expected = (pixels[7].astype(np.float32) / 127.5 - 1).reshape(2, 4, 2, 4, 3).mean((0, 2)).transpose(2, 0, 1)
    assert features[7] == pytest.approx(expected.ravel(), abs=1e-5)
