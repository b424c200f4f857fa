"""A verifier's probability of a label, whatever size and channels it reads."""

import numpy as np
import pytest
import torch

from tailforge.tasks.methods.quality.verify_labels import label_probabilities
from tests.support.tiny_teachers import SharedActivation, TinyTeacher, calibrate, tiny_teacher

IMAGES = list(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8))


def test_it_is_the_softmax_of_the_logits_on_the_images_own_pixels() -> None:
    verifier = tiny_teacher(4)
    levels = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (verifier.mean, verifier.std))
    with torch.no_grad():
        expected = verifier.logits((levels - mean) / std).softmax(1)
    for label in range(4):
        assert label_probabilities(verifier, IMAGES, label) == pytest.approx(expected[:, label].tolist(), rel=1e-4)


def test_a_score_does_not_depend_on_the_other_images() -> None:
    verifier = tiny_teacher(4)
    assert label_probabilities(verifier, IMAGES, 1)[2:] == label_probabilities(verifier, IMAGES[2:], 1)


@pytest.mark.parametrize("size", [(8, 8), (20, 14)])
def test_grey_verifiers_of_another_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    verifier = TinyTeacher(calibrate(SharedActivation(), 1, 14), (0.4,), (0.3,), size)
    scores = [label_probabilities(verifier, IMAGES, label) for label in range(10)]
    assert np.sum(scores, axis=0) == pytest.approx([1, 1, 1], abs=1e-5)


def test_a_larger_image_is_averaged_and_not_sampled() -> None:
    verifier = tiny_teacher(4)  # which reads a quarter of the size
    columns = np.tile(np.array([255, 0, 0, 255], np.uint8), 16)  # where samples would fall it is black
    stripes = np.broadcast_to(columns[:, None], (64, 64, 3))
    grey, black = (np.full((64, 64, 3), level, np.uint8) for level in (128, 0))
    found, mean, sampled = (
        np.array([label_probabilities(verifier, [image], label) for label in range(4)])
        for image in (stripes, grey, black)
    )
    assert np.abs(found - mean).max() < np.abs(found - sampled).max() / 4


def test_a_grey_verifier_reads_the_luma() -> None:
    torch.manual_seed(0)
    verifier = TinyTeacher(calibrate(SharedActivation(), 1, 14), (0.4,), (0.3,), (16, 16))
    lumas = IMAGES[0].astype(np.float64) @ [0.299, 0.587, 0.114]
    with torch.no_grad():
        expected = verifier.logits((torch.from_numpy(lumas).float()[None, None] / 255 - 0.4) / 0.3).softmax(1)
    assert label_probabilities(verifier, IMAGES[:1], 3) == pytest.approx([float(expected[0, 3])], rel=1e-4)


def test_nothing_asked_nothing_said() -> None:
    assert label_probabilities(tiny_teacher(4), [], 0) == []
