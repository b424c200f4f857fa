"""Class-activation maps: the map of a linear head, its range and its place."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailforge.tasks.methods.natural_inversion.class_activation import class_activation
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tests.support.tiny_teachers import TinyTeacher, calibrate, count_hooks, tiny_teacher, vgg


class Head(nn.Module):
    """BatchNorm, average, one linear layer: the map is known in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3, 2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm(images).mean((2, 3)))
        return logits


def test_with_a_linear_head_it_is_the_weighted_sum_of_the_maps() -> None:
    torch.manual_seed(0)
    module = Head().eval()
    teacher = TinyTeacher(module, size=(6, 6))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), np.uint8)
    maps = class_activation(teacher, pixels, [1, 0])
    with torch.no_grad():
        features = module.norm(PixelScale(teacher.mean, teacher.std, torch.device("cpu")).from_pixels(pixels))
        weights = module.linear.weight[[1, 0]]
        expected = functional.relu((features * weights[:, :, None, None]).sum(1, keepdim=True))
        expected /= expected.amax((2, 3), keepdim=True)
    assert maps.dtype == np.float16
    assert maps.shape == (2, 1, 6, 6)
    np.testing.assert_allclose(maps, expected.numpy(), atol=2e-3)


def test_maps_are_in_range_depend_on_the_label_and_leave_no_hook() -> None:
    teacher = tiny_teacher()
    pixels = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 3), np.uint8).repeat(10, axis=0)
    maps = class_activation(teacher, pixels, range(10))
    assert float(maps.min()) >= 0
    assert float(maps.max()) == pytest.approx(1, abs=1e-3)
    assert len(np.unique(maps, axis=0)) > 3
    assert count_hooks(teacher.module) == 0


def test_a_map_without_evidence_is_empty() -> None:
    module = Head()
    nn.init.constant_(module.linear.weight, -1.0)
    white = np.full((1, 6, 6, 3), 255, np.uint8)
    assert float(class_activation(TinyTeacher(module, size=(6, 6)), white, [0]).max()) == 0


def test_maps_come_from_the_last_resolution_that_says_where() -> None:
    """Of taps down to 4 x 4 and 2 x 2 pixels the former: enlarged, its border is 4 pixels wide and not 8."""
    torch.manual_seed(0)
    teacher = TinyTeacher(calibrate(vgg(), side=32), size=(32, 32))
    pixels = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), np.uint8)
    maps = class_activation(teacher, pixels, range(10))
    assert np.array_equal(maps[:, :, 0], maps[:, :, 1])
    assert (maps[:, :, 1] != maps[:, :, 4]).any()
