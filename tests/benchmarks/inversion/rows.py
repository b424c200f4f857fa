"""Rows of the inversion benchmark from the images that were made; see inversion.py."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.classifiers.train import predict
from tests.benchmarks.inversion.parts import Bench, Features, features_of
from tests.benchmarks.pages import row
from tests.benchmarks.seedselect.rows import frechet, over_seeds

UNCHANGED = "ours/unchanged"
STUDENT = "resnet-small"
NEIGHBOURS = 5  # of coverage
REFERENCES = 2000  # test images that the Frechet distance is to
DRAW = 11  # of test images
UNITS = {
    "frechet": "distance",
    "images_per_second": "images a processor s",
    "images": "images",
    "steps": "steps",
    "kd_steps": "steps",
}
NOTED = ("agreement", "images_per_second", "steps", "student_accuracy", "kd_steps")  # figures of a cell's file

Cells = dict[int, dict[str, NDArray[Any]]]  # what was made with a seed


def load(folder: Path) -> dict[str, Cells]:
    """What was made of a set, by arm and by seed; beside changes of ours, ours unchanged with their seeds alone."""
    found: dict[str, Cells] = defaultdict(dict)
    for file in sorted(folder.glob("*/*.npz")):
        if ".tmp" not in file.name:
            with np.load(file) as data:
                found[str(data["arm"])][int(file.stem)] = dict(data)
    seeds = {seed for arm, cells in found.items() if arm.startswith("ours/") for seed in cells}
    if same := {seed: cell for seed, cell in found.get("ours", {}).items() if seed in seeds}:
        found[UNCHANGED] = same
    return dict(sorted(found.items()))


def coverage(images: Features, real: Features, neighbours: int = NEIGHBOURS) -> float:
    """Share of real images that have an image no farther than their own k-th real neighbour.

    Equation 4 of "Reliable Fidelity and Diversity Metrics for Generative Models" (arXiv 2002.09797).
    """
    among = _distances(real, real)
    np.fill_diagonal(among, np.inf)
    radius = np.sort(among, axis=1)[:, neighbours - 1]
    return float((_distances(real, images).min(axis=1) <= radius).mean())


def _distances(first: Features, second: Features) -> Features:
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    distances: Features = np.sqrt(np.clip(squares, 0, None))
    return distances


def measure_cell(bench: Bench, references: Features, values: dict[str, NDArray[Any]]) -> dict[str, float]:
    """All figures of an arm with one seed."""
    images, labels = values["images"], values["labels"]
    features = features_of(bench, images)
    found = predict(bench.verifier.logits, images, bench.scale)
    return {
        **{name: float(values[name]) for name in NOTED if name in values},
        "verifier": float((found == labels).mean()),
        "frechet": frechet(features, references),
        "coverage": coverage(features, references[: len(images)]),
        "images": float(len(images)),
    }


def rows_of(bench: Bench, made: dict[str, Cells]) -> list[dict[str, Any]]:
    """All rows, means over seeds."""
    chosen = np.random.default_rng(DRAW).permutation(len(bench.test))[:REFERENCES]
    references = features_of(bench, bench.test.images[chosen])
    rows = []
    for arm, cells in made.items():
        measured = [measure_cell(bench, references, values) for values in cells.values()]
        for metric in measured[0]:
            unit = UNITS.get(metric, "share")
            rows.append(
                over_seeds(f"{bench.images.name}/{arm}", metric, [figures[metric] for figures in measured], unit)
            )
    return [*rows, *classifier_rows(bench)]


def classifier_rows(bench: Bench) -> list[dict[str, Any]]:
    """How often teacher and verifier are right on the test images."""
    return [
        row(f"{bench.images.name}/{name}", "test_accuracy", float((found == bench.test.labels).mean()), "share")
        for name, found in (
            ("teacher", predict(bench.teacher.logits, bench.test.images, bench.scale)),
            ("verifier", predict(bench.verifier.logits, bench.test.images, bench.scale)),
        )
    ]
