"""How close generated images come to real ones, and what can be learnt from them; see training.py.

Features are those of the independent classifier of the workshop: of no encoder of any arm, trained on other renders.
Letters of shapes: N generated images, M real ones, T training images, D features.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tailforge.schemas.training.classifiers import ClassifierTraining
from tailforge.tasks.methods.classifiers.networks import build_student
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.classifiers.train import label_loss, predict, train_on_views
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tests.benchmarks.seedselect.rows import Features, frechet

COMPONENTS = 16  # principal ones of the real features, so that some eighty images give a covariance
NEIGHBOURS = 5
CLASSIFIER_STEPS = 150


def measure(generated: Features, real: Features, held_out: Features, training: Features) -> dict[str, float]:
    """All distances; `real` and `held_out` are two halves of real images that were not learnt from."""
    mean = real.mean(0)
    axes = np.linalg.svd(real - mean, full_matrices=False)[2][:COMPONENTS].T
    return {
        "frechet": frechet((generated - mean) @ axes, (real - mean) @ axes),
        "kid": kernel_distance(generated, real),
        **neighbourhoods(generated, real),
        **memorisation(generated, held_out, training),
    }


def kernel_distance(first: Features, second: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (a.b / D + 1)^3 (Binkowski et al. 2018)."""

    def kernel(a: Features, b: Features) -> Features:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)

    within = [
        (kernel(each, each).sum() - np.trace(kernel(each, each))) / (len(each) * (len(each) - 1))
        for each in (first, second)
    ]
    return float(sum(within) - 2 * kernel(first, second).mean())


def neighbourhoods(generated: Features, real: Features) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), 5 neighbours."""
    between = cdist(real, generated)
    reach_of_real, reach_of_generated = (
        np.sort(cdist(each, each), axis=1)[:, NEIGHBOURS] for each in (real, generated)
    )
    inside = between <= reach_of_real[:, None]
    return {
        "precision": float(inside.any(0).mean()),
        "recall": float((between <= reach_of_generated[None]).any(1).mean()),
        "density": float(inside.sum(0).mean() / NEIGHBOURS),
        "coverage": float((between.min(1) <= reach_of_real).mean()),
    }


def memorisation(generated: Features, held_out: Features, training: Features) -> dict[str, float]:
    """`memorisation_distance`: median distance of a generated image to the nearest that was learnt, over that of unseen
    real images; below 1 is nearer than real ones are. `memorised`: share nearer than 95 % of the unseen real ones.
    """
    of_generated, of_real = (cdist(each, training).min(1) for each in (generated, held_out))
    return {
        "memorisation_distance": float(np.median(of_generated) / np.median(of_real)),
        "memorised": float((of_generated < np.quantile(of_real, 0.05)).mean()),
    }


def train_and_test(
    images: NDArray[np.uint8], labels: NDArray[np.int64], real: Pictures, classes: int, seed: int
) -> float:
    """Accuracy on real images of a small classifier that learnt from generated ones alone."""
    names = [str(number) for number in range(classes)]
    classifier = build_student("resnet-small", names, 3, (images.shape[1], images.shape[2]), seed)
    settings = ClassifierTraining.model_validate(
        {"steps": CLASSIFIER_STEPS, "batch": 64, "learning_rate": 0.05, "padding": 4, "flip": True, "seed": seed}
    )
    pictures = Pictures(images, labels)
    scale = PixelScale((0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
    train_on_views(classifier, pictures, scale, settings, label_loss, None, lambda *_: None)
    found = predict(classifier.logits, real.images, scale)
    return float((found == real.labels).mean())


def summarise(values: dict[str, Any]) -> dict[str, float]:
    """Rounded for a line of a log."""
    return {key: round(float(value), 4) for key, value in values.items() if isinstance(value, (int, float))}
