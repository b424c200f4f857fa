"""Rows, page and figure of the SeedSelect benchmark from the images that were made; see seedselect.py."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from catalog.model_files import MODELS
from tasks.methods.training_loop import images_to_tensor
from tasks.methods.workshop import MATERIALS, PARTS, SURFACES, TAIL_PARTS
from tasks.models.judges import Judges, load_judges
from tests.benchmarks.pages import DOCS, markdown_table, row, write_json

COMMON = ("gear", "bolt")
COMPONENTS = 8  # of the judge's features, so that a few dozen images give a covariance
STUDENT_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided t quantile by number of seeds
SHOWN = 8  # pictures of an arm and part in the figure

UNITS = {
    "seconds_per_image": "s",
    "seconds_finding_seeds": "s a part",
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
            judges.classifier(images_to_tensor(images[first : first + 128]))
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
    """What was made, by arm and then by part and seed."""
    found: dict[str, Cells] = defaultdict(dict)
    for file in sorted(work.glob("*/*.npz")):
        if ".tmp" in file.name:
            continue
        part, seed = file.stem.rsplit("-", 1)
        with np.load(file) as data:
            values = {name: data[name] for name in data.files}
        values["provenance"] = json.loads(str(values["provenance"]))
        found[file.parent.name.replace("__", "/")][part.replace("_", " "), int(seed)] = values
    return found


def over_seeds(arm: str, metric: str, values: Sequence[float], unit: str) -> dict[str, Any]:
    """A row: mean over seeds with Student's 95 % interval."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return row(arm, metric, mean, unit)
    half = STUDENT_95[count] * float(np.std(values, ddof=1)) / count**0.5
    low, high = mean - half, mean + half
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


def draw_figure(
    made: dict[str, dict[tuple[str, int], dict[str, Any]]], references: Sequence[NDArray[np.uint8]]
) -> None:
    """A column an arm, a row a rare part; the first pictures of the lowest seed, so none is chosen."""
    side, label = 64, 14
    width = SHOWN // 2 * side + 8
    sheet = Image.new("RGB", (width * (len(made) + 1), (2 * side + 8) * len(TAIL_PARTS) + label), "white")
    draw = ImageDraw.Draw(sheet)
    for column, arm in enumerate(["references", *made]):
        draw.text((column * width + 2, 1), arm, fill="black")
        for line, part in enumerate(TAIL_PARTS):
            key = min((key for key in made.get(arm, {}) if key[0] == part), default=None)
            images = references[line] if arm == "references" else made[arm][key]["images"] if key else ()
            for number, image in enumerate(images[:SHOWN]):
                x, y = (
                    column * width + number % (SHOWN // 2) * side,
                    label + line * (2 * side + 8) + number // (SHOWN // 2) * side,
                )
                sheet.paste(Image.fromarray(image), (x, y))
    (DOCS / "figures").mkdir(parents=True, exist_ok=True)
    sheet.save(DOCS / "figures" / "seedselect.png")


def judge(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Each goal with its figure, and whether it is met."""
    found = {(entry["arm"], entry["metric"]): entry["value"] for entry in rows}

    def value(arm: str, metric: str) -> float:
        return float(found.get((arm, metric), float("nan")))

    bounds = {(entry["arm"], entry["metric"]): (entry["low"], entry["high"]) for entry in rows}
    ours, boot = "ours", "ours_bootstrapped"
    apart = bounds[ours, "success_rare"][0] > bounds["best_of_n", "success_rare"][1]
    ratio = value("published", "seconds_per_image") / value(ours, "seconds_per_image")
    again = value(ours, "seconds_per_image") / value(boot, "seconds_per_image")
    kept = value(ours, "diversity_rare") / value("plain", "diversity_common")
    ahead = value(ours, "success_rare") - value("best_of_n", "success_rare")
    slower = value("best_of_n", "seconds_per_image") / value(ours, "seconds_per_image")
    lead = value(ours, "success_rare") - value("published", "success_rare")
    goals: list[tuple[str, float, Callable[[float], bool]]] = [
        ("success of plain sampling on rare parts at most 0.40", value("plain", "success_rare"), lambda v: v <= 0.40),
        ("success of ours on rare parts at least 0.90", value(ours, "success_rare"), lambda v: v >= 0.90),
        ("diversity of ours on rare parts over plain's on common parts at least 0.85", kept, lambda v: v >= 0.85),
        ("seconds of published over those of ours at least 5", ratio, lambda v: v >= 5),
        ("success of ours minus that of published at least 0", lead, lambda v: v >= 0),
        (
            f"success of ours ahead of best-of-N at {slower:.2f} times its seconds, intervals apart",
            ahead,
            lambda v: apart,
        ),
        ("seconds of ours over those of bootstrapped (without finding seeds) at least 3", again, lambda v: v >= 3),
        ("success of bootstrapped on rare parts at least 0.85", value(boot, "success_rare"), lambda v: v >= 0.85),
    ]
    return [f"- {goal}: {number:.3g}, {'met' if met(number) else '**missed**'}" for goal, number, met in goals]


def write_page(work: Path, references: Sequence[NDArray[np.uint8]]) -> None:
    """docs/benchmarks/seedselect.{json,md} and its figure."""
    judges, made = load_judges(MODELS / "judges"), load(work)
    order = [*TAIL_PARTS, *COMMON]
    renders = {part: features_of(judges, np.stack(images)) for part, images in zip(order, references, strict=True)}
    rows = [entry for arm, own in made.items() for entry in rows_of(arm, own, renders, judges)]
    rows += render_rows(renders, max(len(values["images"]) for own in made.values() for values in own.values()))
    seeds = sorted({seed for own in made.values() for _, seed in own})
    write_json("seedselect", seeds, rows)
    draw_figure({arm: own for arm, own in made.items() if "/" not in arm}, references)
    template = (DOCS.parent.parent / "tests" / "benchmarks" / "seedselect_page.md").read_text()
    (DOCS / "seedselect.md").write_text(template.format(table=markdown_table(rows), goals="\n".join(judge(rows))))
