"""Rows of the SeedSelect benchmark from the images that were made; see seedselect.py."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailforge.tasks.methods.intervals import student_interval, wilson_interval
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES, TAIL_PARTS
from tailforge.tasks.models.judges import Judges
from tests.benchmarks.pages import row

COMMON = ("gear", "bolt")
UNCHANGED = "ours/unchanged"
COMPONENTS = 8  # of the judge's features, so that a few dozen images give a covariance

UNITS = {
    "seconds_per_image": "processor s",
    "seconds_finding_seeds": "processor s a part",
    "peak_memory_mb": "MiB",
    "nearest_reference": "cosine",
    "forward_evaluations": "network rows",
    "backward_evaluations": "network rows",
    "diversity_rare": "distance",
    "diversity_common": "distance",
}

Features = NDArray[np.float64]
Cells = dict[tuple[str, int], dict[str, Any]]  # what was made of a part with a seed


def features_of(judges: Judges, images: NDArray[np.uint8]) -> Features:
    """What the judge's last layer reads: [N, D]."""
    kept: list[torch.Tensor] = []
    handle = judges.classifier.head.register_forward_pre_hook(lambda _module, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        for first in range(0, len(images), 128):
            judges.classifier(to_tensor(images[first : first + 128]))
    handle.remove()
    return torch.cat(kept).double().numpy()


def diversity(features: Features) -> float:
    """Mean distance of two different images."""
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    count = len(features)
    return float(distances.sum() / (count * (count - 1)))


def frechet(first: Features, second: Features) -> float:
    """Frechet distance of two normal distributions with the features' moments (Heusel et al. 2017)."""
    one, two = np.cov(first.T), np.cov(second.T)
    values, vectors = np.linalg.eigh(one)
    root = vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ two @ root), 0, None)).sum()
    gap = first.mean(0) - second.mean(0)
    return float(gap @ gap + np.trace(one) + np.trace(two) - 2 * cross)


def asked(count: int) -> NDArray[np.int64]:
    """Material and surface of each request, as in seedselect.request: [N, 2]."""
    numbers = np.arange(count)
    return np.stack([numbers % len(MATERIALS), (numbers + numbers // 6) % len(SURFACES)], axis=1)


def load(work: Path) -> dict[str, Cells]:
    """What was made, by arm, then by part and seed; beside changes of ours, ours with their parts and seeds alone."""
    found: dict[str, Cells] = defaultdict(dict)
    for file in sorted(work.glob("*/*-*.npz")):
        if ".tmp" in file.name:
            continue
        part, seed = file.stem.rsplit("-", 1)
        with np.load(file) as data:
            values = {name: data[name] for name in data.files}
        values["provenance"] = json.loads(str(values["provenance"]))
        found[file.parent.name.replace("__", "/")][part.replace("_", " "), int(seed)] = values
    cells = {cell for arm, made in found.items() if arm.startswith("ours/") for cell in made}
    if same := {cell: values for cell, values in found.get("ours", {}).items() if cell in cells}:
        found[UNCHANGED] = same
    return found


def over_seeds(arm: str, metric: str, values: Sequence[float], unit: str) -> dict[str, Any]:
    """A row: mean over seeds with Student's 95 % interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return row(arm, metric, mean, unit)
    low, high = student_interval(values)
    return row(arm, metric, mean, unit, *((max(low, 0.0), min(high, 1.0)) if unit == "share" else (low, high)))


def rows_of(arm: str, made: Cells, renders: dict[str, Features], judges: Judges) -> list[dict[str, Any]]:
    """All rows of one arm."""
    by_seed: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    pooled: dict[str, list[Features]] = defaultdict(list)
    for (part, seed), values in made.items():
        judged, rare = judges.classify(values["images"]), part in TAIL_PARTS
        features = features_of(judges, values["images"])
        pooled[part].append(features)
        by_seed["success_rare" if rare else "success_common"][seed].append(np.mean(judged[:, 0] == PARTS.index(part)))
        by_seed["diversity_rare" if rare else "diversity_common"][seed].append(diversity(features))
        by_seed["attributes_kept"][seed].append(np.mean((judged[:, 1:] == asked(len(judged))).all(axis=1)))
        origin = [each for each in values["provenance"] if "forward_evaluations" in each]
        by_seed["nearest_reference"][seed].append(np.mean([each["reference_cosine"] for each in origin]))
        for name in ("forward_evaluations", "backward_evaluations"):
            by_seed[name][seed].append(np.mean([each[name] for each in origin]))
        by_seed["seconds_per_image"][seed].append(float(values["seconds"]))
        if float(values["found_in"]):
            by_seed["seconds_finding_seeds"][seed].append(float(values["found_in"]))
        by_seed["peak_memory_mb"][seed].append(float(values["peak_mb"]))
    rows = [
        over_seeds(arm, metric, [float(np.mean(parts)) for parts in seeds.values()], UNITS.get(metric, "share"))
        for metric, seeds in by_seed.items()
    ]
    distances = [frechet_to(np.concatenate(pooled[part]), renders[part]) for part in pooled if part in TAIL_PARTS]
    return [*rows, row(arm, "frechet_rare", float(np.mean(distances)), "distance")]


def lead_row(ours: Cells, other: Cells, name: str, judges: Judges) -> dict[str, Any]:
    """Success of ours minus that of another arm on the parts and seeds that both have, seed by seed."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    for part, seed in sorted(set(ours) & set(other)):
        if part in TAIL_PARTS:
            right = [judges.classify(made[part, seed]["images"])[:, 0] == PARTS.index(part) for made in (ours, other)]
            by_seed[seed].append(float(np.mean(right[0]) - np.mean(right[1])))
    return over_seeds(
        f"ours - {name}", "success_rare", [float(np.mean(parts)) for parts in by_seed.values()], "difference"
    )


def cost_row(ours: Cells, other: Cells, name: str) -> dict[str, Any]:
    """Seconds of another arm over those of ours, on the parts and seeds that both have."""
    both = set(ours) & set(other)
    seconds = [sum(float(made[cell]["seconds"]) for cell in both) for made in (other, ours)]
    return row(f"{name} / ours", "seconds_per_image", seconds[0] / seconds[1], "ratio")


def part_rows(arm: str, made: Cells, judges: Judges) -> list[dict[str, Any]]:
    """Success on each part, all seeds together, with Wilson's 95 % interval."""
    rows = []
    for part in dict.fromkeys(part for part, _ in made):
        judged = [judges.classify(values["images"])[:, 0] for (own, _), values in made.items() if own == part]
        right = np.concatenate(judged) == PARTS.index(part)
        low, high = wilson_interval(int(right.sum()), len(right))
        rows.append(row(arm, f"success {part}", float(right.mean()), "share", low, high))
    return rows


def confident_rows(arm: str, made: Cells, judges: Judges) -> list[dict[str, Any]]:
    """Success of the rare images that ended confident, by whether the noise was chosen or moved; Wilson's interval."""
    right: dict[str, list[bool]] = defaultdict(list)
    for (part, _), values in made.items():
        for label, origin in zip(judges.classify(values["images"])[:, 0], values["provenance"], strict=True):
            if part in TAIL_PARTS and origin.get("stop_reason") == "confident":
                right["moved" if origin["iterations"] else "chosen"].append(label == PARTS.index(part))
    return [
        row(arm, f"success_{way}", float(np.mean(seen)), "share", *wilson_interval(sum(seen), len(seen)))
        for way, seen in right.items()
    ]


def frechet_to(features: Features, renders: Features) -> float:
    """Of images to renders, on the renders' first principal components."""
    return frechet(project(features, renders), project(renders, renders))


def project(features: Features, renders: Features) -> Features:
    """Onto the first principal components of the renders."""
    mean = renders.mean(0)
    _, _, axes = np.linalg.svd(renders - mean, full_matrices=False)
    projected: Features = (features - mean) @ axes[:COMPONENTS].T
    return projected


def render_rows(renders: dict[str, Features], sizes: int) -> list[dict[str, Any]]:
    """The ceiling: renders in groups of as many as an arm has of a part and seed."""
    rare = [diversity(renders[part][i : i + sizes]) for part in TAIL_PARTS for i in range(0, 3 * sizes, sizes)]
    common = [diversity(renders[part][i : i + sizes]) for part in COMMON for i in range(0, 3 * sizes, sizes)]
    halves = [frechet_to(renders[part][: 3 * sizes], renders[part][100:]) for part in TAIL_PARTS]
    return [
        row("renders", "diversity_rare", float(np.mean(rare)), "distance"),
        row("renders", "diversity_common", float(np.mean(common)), "distance"),
        row("renders", "frechet_rare", float(np.mean(halves)), "distance"),
    ]
