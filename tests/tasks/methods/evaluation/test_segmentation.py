"""Segmentation: loss and overlap by hand, masks that move with their images, and the small network."""

import math

import numpy as np
import pytest
import torch

from tailforge.schemas.evaluation import Augmentation
from tailforge.tasks.methods.evaluation.adjust import adjust_logits
from tailforge.tasks.methods.evaluation.augmentations import AugmentedViews
from tailforge.tasks.methods.evaluation.examples import IGNORED, UNKNOWN, Examples
from tailforge.tasks.methods.evaluation.metrics import confusion_matrix, overlap_per_class
from tailforge.tasks.methods.evaluation.models import preset_model
from tailforge.tasks.methods.evaluation.segmentation import segmentation_loss
from tailforge.tasks.methods.evaluation.tasks import TASKS

TASK = TASKS["segmentation"]


def test_overlap_of_a_case_by_hand() -> None:
    labels = np.array([[[0, 0, 1], [1, 1, UNKNOWN]]])
    found = np.array([[[0, 1, 1], [1, 0, 2]]])
    confusion = confusion_matrix(found, labels, 3)
    assert confusion.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    overlap = overlap_per_class(confusion).tolist()
    assert overlap[:2] == [1 / 3, 2 / 4]
    assert math.isnan(overlap[2])


def test_the_loss_of_a_case_by_hand() -> None:
    # Two known pixels of class 0, each with probability 3/4, and one ignored pixel.
    logits = torch.tensor([math.log(3.0), 0.0, 0.0]).reshape(3, 1)[:2].repeat(1, 3).reshape(1, 2, 1, 3)
    labels = torch.tensor([[[0, 0, UNKNOWN]]])
    dice = 1 - 2 * 1.5 / (1.5 + 2)
    assert float(segmentation_loss(logits, labels)) == pytest.approx(-math.log(0.75) + dice, abs=1e-6)
    changed = logits.clone()
    changed[..., 2] = 9.0
    assert torch.equal(segmentation_loss(changed, labels), segmentation_loss(logits, labels))
    nothing = segmentation_loss(logits.requires_grad_(), torch.full_like(labels, UNKNOWN))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert (logits.grad == 0).all()


def test_a_right_answer_has_almost_no_loss() -> None:
    labels = torch.randint(0, 4, (2, 5, 6), generator=torch.Generator().manual_seed(0))
    logits = 30.0 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    assert float(segmentation_loss(logits, labels)) < 1e-5
    assert float(segmentation_loss(-logits, labels)) > 10


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_move_with_their_images(channels: int) -> None:
    """The mask marks the bright pixels before and after every change of place."""
    draws = np.random.default_rng(0)
    masks = draws.integers(0, 2, (6, 20, 24), np.uint8)
    images = np.repeat((200 * masks)[..., None], channels, axis=3)
    moving = Augmentation(padding=4, flip=True, flip_vertical=True)
    viewed = AugmentedViews(20, 24, moving).draw(Examples(images, masks, 2), 1, 2)
    assert (viewed.images == 200 * viewed.targets[..., None]).all()
    assert (viewed.targets != masks).any()
    still = Augmentation(padding=0, contrast=0.3, noise=0.05, erase=0.4)
    assert (AugmentedViews(20, 24, still).draw(Examples(images, masks, 2), 1, 2).targets == masks).all()


def test_examples_count_images_and_pixels() -> None:
    masks = np.array([[[0, 0], [0, 2]], [[0, IGNORED], [IGNORED, 0]]], np.uint8)
    examples = Examples(np.zeros((2, 2, 2, 1), np.uint8), masks, 3)
    assert examples.counts == (2, 0, 1)
    assert examples.units == (5, 0, 1)
    assert examples.label(slice(1, 2)).tolist() == [[[0, UNKNOWN], [UNKNOWN, 0]]]
    many = Examples(np.zeros((2, 2, 2, 1), np.uint8), np.array([255, 299]), 300)  # classes have no ignored number
    assert many.label(slice(None)).tolist() == [255, 299]
    assert sum(many.units) == 2


def test_adjustment_of_pixels_is_that_of_images() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    flat = np.moveaxis(logits, 1, -1).reshape(-1, 3)
    adjusted = np.moveaxis(adjust_logits(logits, [90, 9, 1], 0.5), 1, -1).reshape(-1, 3)
    assert adjusted == pytest.approx(adjust_logits(flat, [90, 9, 1], 0.5))


def test_the_small_network_returns_logits_at_the_images_size() -> None:
    network = preset_model("pyramid-small", TASK.presets["pyramid-small"], 1).build(5, 0)
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(570_000, rel=0.05)
    for height, width in ((16, 16), (40, 57), (128, 96)):
        assert network(torch.zeros(2, 1, height, width)).shape == (2, 5, height, width)
