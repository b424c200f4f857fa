"""Accuracy, mistakes and the loss curve of small cases."""

import numpy as np
import pytest

from tailforge.tasks.methods.classifiers.measure import (
    measure_accuracy,
    measure_classes,
    measure_share,
    summarise_losses,
    worst_confusions,
)

NAMES = ("a", "b", "c", "d")
LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
FOUND = np.array([0, 0, 1, 1, 1, 2, 2, 2])


def test_accuracy_carries_its_wilson_interval() -> None:
    assert measure_accuracy(FOUND, LABELS) == {**measure_share(5, 8), "value": 0.625}
    assert measure_share(8, 10)["low"] == pytest.approx(0.4902, abs=1e-4)
    assert measure_share(0, 0) == {"value": None, "low": 0.0, "high": 1.0, "right": 0, "images": 0}


def test_classes_without_test_images_are_left_out() -> None:
    rows = measure_classes(FOUND, LABELS, NAMES)
    assert [(row["class"], row["right"], row["images"]) for row in rows] == [("a", 2, 4), ("b", 1, 2), ("c", 2, 2)]


def test_mistakes_come_most_frequent_first() -> None:
    found = worst_confusions(FOUND, LABELS, NAMES)
    assert found == [
        {"class": "a", "taken_for": "b", "images": 2, "share": 0.5},
        {"class": "b", "taken_for": "c", "images": 1, "share": 0.5},
    ]
    assert worst_confusions(FOUND, LABELS, NAMES, most=1) == found[:1]
    assert worst_confusions(LABELS, LABELS, NAMES) == []


def test_the_curve_holds_means_up_to_the_last_step() -> None:
    assert summarise_losses(np.array([1, 2, 3], np.float32)) == [[1, 1.0], [2, 2.0], [3, 3.0]]
    curve = summarise_losses(np.arange(250, dtype=np.float32))
    assert len(curve) == 100
    assert curve[-1][0] == 250
    assert curve[0] == [3, 1.0]
