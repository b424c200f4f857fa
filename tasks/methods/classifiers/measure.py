"""Measure a classifier on labelled images: its accuracy, its confusions and its loss curve."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.classifiers.pictures import Classes
from tailforge.tasks.methods.intervals import wilson_interval

POINTS = 100  # most points of a loss curve


def measure_share(hits: int, count: int) -> dict[str, Any]:
    """Return a share with its 95 % Wilson interval. The key `value` is None if `count` is 0."""
    low, high = wilson_interval(hits, count)
    return {"value": hits / count if count else None, "low": low, "high": high, "right": hits, "images": count}


def measure_accuracy(found: Classes, labels: Classes) -> dict[str, Any]:
    """Return the share of images whose likeliest class is right. `found` and `labels` are classes [N]."""
    return measure_share(int((found == labels).sum()), len(labels))


def measure_classes(found: Classes, labels: Classes, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the accuracy of each class with an image, in the order of the classes. `found` and `labels` are [N]."""
    # A class without images has no accuracy.
    present = np.unique(labels).tolist()
    return [
        {"class": names[place], **measure_accuracy(found[labels == place], labels[labels == place])}
        for place in present
    ]


def worst_confusions(found: Classes, labels: Classes, names: Sequence[str], most: int = 12) -> list[dict[str, Any]]:
    """Return the commonest confusions of labels [N] with classes `found` [N], at most `most`.

    The key `share` is the fraction of the label's images.
    """
    # Count label against class found, and drop the hits on the diagonal.
    table = np.zeros((len(names), len(names)), np.int64)
    np.add.at(table, (labels, found), 1)
    totals = table.sum(1)
    np.fill_diagonal(table, 0)

    # Rank the pairs of classes by images; a stable sort breaks ties by class.
    ranked = np.argsort(-table, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(names)) for place in ranked]
    return [
        {"class": names[a], "taken_for": names[b], "images": int(table[a, b]), "share": float(table[a, b] / totals[a])}
        for a, b in pairs
        if table[a, b]
    ]


def summarise_losses(losses: NDArray[np.float32]) -> list[list[float]]:
    """Return points [step, mean loss since the last point] of losses [steps], at most POINTS."""
    # Stretches of about equal length, each shown at its last step.
    parts = np.array_split(losses, min(POINTS, len(losses)))
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return [[end, round(float(part.mean()), 5)] for end, part in zip(ends, parts, strict=True)]
