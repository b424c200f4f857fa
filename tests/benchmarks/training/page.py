"""Rows, figures and page of the benchmark of training; see training.py."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from tests.benchmarks.pages import DOCS, write_json
from tests.benchmarks.seedselect.rows import over_seeds
from tests.benchmarks.training.cost import measure_cost

matplotlib.use("Agg")
from matplotlib import pyplot

TEMPLATE = Path(__file__).parent / "page.md"
UNITS = {
    "frechet": "squared distance",
    "kid": "squared distance",
    "precision": "share",
    "recall": "share",
    "coverage": "share",
    "density": "ratio",
    "memorisation_distance": "ratio",
    "memorised": "share",
    "trained_on_generated": "share",
    "success": "share",
}
SHOWN = (
    "frechet",
    "kid",
    "precision",
    "recall",
    "coverage",
    "memorisation_distance",
    "trained_on_generated",
    "success",
)
ORDER = (
    "source", "denoising", "denoising/longer", "instance", "frozen", "sadm", "random_encoder", "lora", "real",
    "denoising/grouped", "sadm/grouped",
)  # fmt: skip
LONG_ORDER = ("denoising/long", "sadm/long", "sadm/strong")
COMPARED = ("instance", "frozen", "sadm", "random_encoder", "lora")
CONTROLS = ("denoising", "denoising/longer")
CONTROLS_OF = {**dict.fromkeys(COMPARED, CONTROLS), **dict.fromkeys(LONG_ORDER[1:], LONG_ORDER[:1])}
PICTURES = 12

Cells = Mapping[tuple[str, int], Mapping[int, Mapping[str, Any]]]  # by arm and size, then by seed


def load_cells(work: Path) -> Cells:
    """What was made."""
    found: dict[tuple[str, int], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for file in sorted((work / "cells").glob("*.json")):
        cell = json.loads(file.read_text())
        found[cell["arm"], cell["size"]][cell["seed"]] = cell
    return found


def make_rows(cells: Cells) -> list[dict[str, Any]]:
    """Means over seeds, and the share by which an arm's Frechet distance is below a control's, seed by seed."""
    rows = []
    for (arm, size), by_seed in cells.items():
        for metric, unit in UNITS.items():
            values = [cell[metric] for cell in by_seed.values()]
            rows.append(over_seeds(f"workshop-{size}/{arm}", metric, values, unit) | {"seeds": sorted(by_seed)})
        for control in CONTROLS_OF.get(arm, ()):
            others = cells.get((control, size), {})
            seeds = sorted(set(by_seed) & set(others))
            if gains := [1 - by_seed[seed]["frechet"] / others[seed]["frechet"] for seed in seeds]:
                name = f"workshop-{size}/{arm} - {control}"
                rows.append(over_seeds(name, "frechet_lowered", gains, "gain") | {"seeds": seeds})
    return rows


def write_results(work: Path, seeds: Sequence[int]) -> None:
    """docs/benchmarks/training.{json,md} with a figure of curves and one of pictures."""
    cells = load_cells(work)
    rows = [*make_rows(cells), *measure_cost(work / "models" / "source")]
    (DOCS / "training.json").unlink(missing_ok=True)  # rows of other settings must not stay
    write_json("training", list(seeds), rows)
    draw_curves(rows, DOCS / "figures" / "training.png")
    draw_pictures(work, cells, DOCS / "figures" / "training_pictures.png")
    write_page(rows)


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """The page's template with its tables."""
    values = {(row["arm"], row["metric"]): row for row in rows}
    sizes = sorted(
        {int(row["arm"].split("/")[0].removeprefix("workshop-")) for row in rows if "workshop" in row["arm"]}
    )
    parts = {
        "TABLES": "\n\n".join(_table(values, size, ORDER) for size in sizes),
        "GAINS": _gains(values, sizes, COMPARED, CONTROLS),
        "LONG": "\n\n".join(_table(values, size, LONG_ORDER) for size in sizes),
        "LONG GAINS": _gains(values, sizes, LONG_ORDER[1:], LONG_ORDER[:1]),
        "COST": _cost(rows),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for mark, content in parts.items():
        text = text.replace(f"<!-- {mark} -->", content)
    (DOCS / "training.md").write_text(text, encoding="utf-8")


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    digits = ".0f" if abs(row["value"]) >= 20 else ".3f"
    bounds = "" if row["low"] is None else f" ({row['low']:{digits}} to {row['high']:{digits}})"
    return f"{row['value']:{digits}}{bounds}"


def _table(values: Mapping[tuple[str, str], Mapping[str, Any]], size: int, order: Sequence[str]) -> str:
    lines = [f"### {size} images", "", f"| arm | seeds | {' | '.join(SHOWN)} |", "|" + "---|" * (len(SHOWN) + 2)]
    for arm in order:
        name = f"workshop-{size}/{arm}"
        if (name, SHOWN[0]) in values:
            cells = " | ".join(_cell(values.get((name, metric))) for metric in SHOWN)
            lines.append(f"| {arm} | {len(values[name, SHOWN[0]]['seeds'])} | {cells} |")
    return "\n".join(lines)


def _gains(
    values: Mapping[tuple[str, str], Mapping[str, Any]],
    sizes: Sequence[int],
    compared: Sequence[str],
    controls: Sequence[str],
) -> str:
    titles = [f"below {control}" for control in controls]
    lines = [f"| images | arm | {' | '.join(titles)} |", "|" + "---|" * (len(titles) + 2)]
    for size in sizes:
        for arm in compared:
            found = [values.get((f"workshop-{size}/{arm} - {each}", "frechet_lowered")) for each in controls]
            if any(found):
                lines.append(f"| {size} | {arm} | {' | '.join(_cell(each) for each in found)} |")
    return "\n".join(lines)


def _cost(rows: Sequence[Mapping[str, Any]]) -> str:
    values = {(row["arm"], row["metric"]): row for row in rows if row["arm"].startswith("cost/")}
    lines = ["| arm | time_overhead | images_per_second | peak_memory_mb |", "|---|---|---|---|"]
    for arm in dict.fromkeys(arm for arm, _ in values):
        cells = [
            _cell(values.get((arm, metric))) for metric in ("time_overhead", "images_per_second", "peak_memory_mb")
        ]
        lines.append(f"| {arm.removeprefix('cost/')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_curves(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Frechet distance and what can be learnt from the images, by the number of images, with intervals."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for axis, metric in zip(axes, ("frechet", "trained_on_generated"), strict=True):
        for number, arm in enumerate(("denoising", "denoising/longer", *COMPARED)):
            found = [row for row in rows if row["metric"] == metric and row["arm"].partition("/")[2] == arm]
            found.sort(key=lambda row: int(row["arm"].split("/")[0].removeprefix("workshop-")))
            places = [place + 0.06 * (number - 3) for place in range(len(found))]
            spread = [(row["high"] - row["low"]) / 2 if row["low"] is not None else 0 for row in found]
            axis.errorbar(places, [row["value"] for row in found], spread, marker="o", markersize=3, label=arm, lw=1)
        sizes = sorted(
            {int(row["arm"].split("/")[0].removeprefix("workshop-")) for row in rows if "workshop" in row["arm"]}
        )
        axis.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axis.set_xlabel("images adapted to")
        axis.set_title(metric)
    axes[1].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def draw_pictures(work: Path, cells: Cells, file: Path) -> None:
    """For 100 images and seed 0, a row an arm: the same prompts and noises, the first of them, none chosen."""
    rows = []
    for arm in ORDER:
        made = work / "cells" / f"{arm.replace('/', '-')}-100-0.npz"
        if made.exists():
            rows.append(np.concatenate(list(np.load(made)["images"][:PICTURES]), axis=1))
    if rows:
        Image.fromarray(np.concatenate(rows)).save(file, optimize=True)
