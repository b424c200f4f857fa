"""Pictures on their way into a network."""

import numpy as np
import torch

from tailforge.tasks.methods.sampling.pixels import to_pixels, to_tensor


def test_levels_become_numbers_from_minus_one_to_one() -> None:
    images = np.zeros((2, 1, 3, 3), np.uint8)
    images[1, 0, 2] = 0, 51, 255
    images.flags.writeable = False
    tensor = to_tensor(images)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (2, 3, 1, 3)
    assert torch.allclose(tensor[1, :, 0, 2], torch.tensor([-1.0, -0.6, 1.0]))
    assert torch.all(tensor[0] == -1)


def test_every_level_comes_back() -> None:
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(to_pixels(to_tensor(images)), images)
