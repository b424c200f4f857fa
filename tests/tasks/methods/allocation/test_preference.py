"""Images that are kept: unsure ones first, never doubted ones or twins, and a part of each class."""

import numpy as np
import pytest

from tailforge.tasks.methods.allocation.preference import DOUBTED, EASY, SEEN, measure_entropy, prefer_images

NONE = np.zeros(4, bool)


def test_entropy_is_0_for_a_sure_model_and_log_k_for_an_undecided_one() -> None:
    shares = np.array([[1.0, 0.0, 0.0], [1 / 3] * 3, [0.5, 0.5, 0.0]])
    assert measure_entropy(shares) == pytest.approx([0, np.log(3), np.log(2)])


def test_of_each_class_the_least_sure_stay() -> None:
    labels, entropy = np.array([0, 0, 0, 1]), np.array([0.1, 0.9, 0.5, 0.0])
    assert prefer_images(labels, entropy, np.ones(4), NONE, 0.5, 0.1).tolist() == [EASY, None, None, None]
    assert prefer_images(labels, entropy, np.ones(4), NONE, 0.01, 0.1).tolist() == [EASY, None, EASY, None]
    assert prefer_images(labels, entropy, np.ones(4), NONE, 1.0, 0.1).tolist() == [None] * 4


def test_doubted_images_and_twins_of_validation_images_go_however_unsure_the_model_is() -> None:
    labels, entropy = np.zeros(4, np.int64), np.array([0.9, 0.8, 0.2, 0.1])
    right, seen = np.array([0.05, 0.6, 0.1, np.nan]), np.array([False, True, False, False])
    assert prefer_images(labels, entropy, right, seen, 1.0, 0.1).tolist() == [DOUBTED, SEEN, None, DOUBTED]


def test_among_equals_the_first_stays() -> None:
    assert prefer_images(np.zeros(4, np.int64), np.ones(4), np.ones(4), NONE, 0.5, 0.0).tolist() == [
        None, None, EASY, EASY,
    ]  # fmt: skip
    assert prefer_images(np.empty(0, np.int64), np.empty(0), np.empty(0), NONE[:0], 0.5, 0.0).tolist() == []
