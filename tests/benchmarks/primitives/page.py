"""Figures and page of the benchmark of regional primitives; see primitives.py."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from tests.benchmarks.pages import DOCS, write_json
from tests.benchmarks.primitives.rows import Cells, load_cells, make_rows, numbers
from tests.benchmarks.seedselect.page import Figures

matplotlib.use("Agg")
from matplotlib import pyplot

Goal = tuple[str, float, Callable[[float], bool]]  # what is asked, the figure, whether it is met

TEMPLATE = Path(__file__).parent / "page.md"
TILE, SHOWN = 96, 10
PICTURES = ("clean", "fault", "ours/no_anchor", "ours", "ours/donor", "inpainting", "reconstruction", "explain")
CURVES = ("ours", "ours/without_rest", "ours/random_order", "random_direction", "nmf", "gradient_map")
BLOCKS = (4, 6, 9)
PREDICTED = ("ours", "ours/order_1", "cells_of_field", "interpolation", "random_weights")
REPAIRS = (
    "explain", "ours", "ours/no_anchor", "ours/first", "ours/donor", "gradient_map", "random_direction", "nmf",
    "inpainting", "inpainting/no_anchor", "reconstruction",
)  # fmt: skip
COMPARED = (
    "explain",
    "ours",
    "ours/no_anchor",
    "ours/donor",
    "gradient_map",
    "inpainting",
    "inpainting/no_anchor",
    "reconstruction",
)
KINDS = ("noise_1", "noise_2", "noise_4", "tripled", "replaced")
CONTAINED = (
    "ours", "ours/added", "random_weights", "random_direction", "random_direction/in_field", "cells_of_field",
    "gradient_map", "nmf", "ours/shuffled_fields", "ours/earlier", "random_weights/earlier",
    "ours/earlier/random_direction",
)  # fmt: skip
RANKED = ("ours", "chance/ours", "ours/single_patches", "gradient_map", "artifacts", "chance/gradient_map", "nmf")


def write_results(work: Path) -> None:
    """docs/benchmarks/primitives.{json,md} with a figure of curves and one of repairs."""
    cells = load_cells(work)
    rows = make_rows(cells)
    (DOCS / "primitives.json").unlink(missing_ok=True)  # rows of other settings must not stay
    write_json("primitives", numbers(cells["whole"]), rows)
    draw_curves(cells, rows, DOCS / "figures" / "primitives.png")
    draw_repairs(work, DOCS / "figures" / "primitives_repairs.png")
    write_page(cells, Figures(rows))


def write_page(cells: Cells, figures: Figures) -> None:
    """The page's template with its tables."""
    curves = ("deletion_auc", "insertion_auc")
    transfers = ("transfer", "transfer_20_in_100", "transfer_100", "transfer_pairs")
    orders = ("components_90", "salient", "order_1", "order_2", "neighbours_of_pairs", "rest", "truncated")
    mended = [
        f"repair_{name}"
        for name in (
            "accepted",
            "by_components",
            "improved",
            "gain",
            "gain_all",
            "gain_median",
            "outside_max",
            "seconds",
        )
    ]
    stable = [f"ours/{name}" for name in ("tolerance", "damping", "start", "half_background")]
    blocks = [f"heldout_additivity_block_{size}" for size in BLOCKS]
    scattered = [f"heldout_additivity_scattered_{size}" for size in (3, 9)]
    contents = {
        "COUNTS": count_cells(cells),
        "GOALS": "\n".join(goals(figures)),
        "CONTAINMENT": table(figures, CONTAINED, ("containment", "containment_median")),
        "SAMPLES": table(
            figures,
            [arm for arm, _ in figures.rows if arm.startswith("ours/sample_")],
            ("containment", "salient", "truncated", "residual_all", "seconds_36"),
        ),
        "CURVES": table(figures, (*CURVES, "random_weights"), curves),
        "HELD_OUT": table(
            figures, (*PREDICTED, "no_change"), ("heldout_additivity", *blocks, *scattered, "heldout_remaining")
        ),
        "SPARSITY": table(figures, ("ours", "random_weights", "nmf", "gradient_map"), orders),
        "NINE": table(figures, ("ours/nine_patches",), ("components_90", *(f"order_{size}" for size in range(1, 10)))),
        "STABILITY": table(figures, (*stable, "nmf"), ("stability", "stability_cosine")),
        "TRANSFER": table(figures, ("ours", "random_weights", "chance"), transfers),
        "CULPRITS": table(figures, RANKED, ("culprit_top3", "culprit_first")),
        "KINDS": table(
            figures,
            [f"{arm}/{kind}" for kind in KINDS for arm in COMPARED],
            ("culprit_top3", "repair_accepted", "repair_improved", "repair_gain_median"),
        ),
        "REPAIRS": table(figures, REPAIRS, mended),
        "SECONDS": table(figures, ("ours", "random_weights", "gradient_map", "nmf"), ("seconds_9", "seconds_36")),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for mark, content in contents.items():
        text = text.replace(f"<!-- {mark} -->", content)
    (DOCS / "primitives.md").write_text(text, encoding="utf-8")


def count_cells(cells: Cells) -> str:
    words = {
        "planted": "planted sets of components",
        "whole": "whole images",
        "random": "of them also with random weights",
        "nine": "with all sets of nine patches",
        "stable": "for stability",
        "deep": "one block earlier",
        "fault": "planted faults",
    }
    return ", ".join(f"{len(cells.get(kind, ()))} {word}" for kind, word in words.items())


def table(figures: Figures, arms: Sequence[str], metrics: Sequence[str]) -> str:
    """A line an arm that has one of the metrics."""
    lines = ["| arm | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for arm in dict.fromkeys(arms):
        cells = [show(figures, arm, metric) for metric in metrics]
        if any(cells):
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def show(figures: Figures, arm: str, metric: str) -> str:
    value, (low, high) = figures(arm, metric), figures.interval(arm, metric)
    if math.isnan(value):
        return ""
    return f"{value:.3g}" if math.isnan(low) else f"{value:.3g} ({low:.3g} to {high:.3g})"


def repair_goals(figures: Figures, name: str, arm: str, rival: str) -> list[Goal]:
    """What is asked of repairs, of one arm."""
    return [
        (
            f"{name}: largest change outside of an accepted repair, of the energy there: below 0.01",
            figures(arm, "repair_outside_max"),
            lambda v: v < 0.01,
        ),
        (
            f"{name}: share of accepted repairs that bring the region nearer to the picture without the fault: 1",
            figures(arm, "repair_improved"),
            lambda v: v >= 1,
        ),
        (
            f"{name}: median share of the error inside that is removed, less that of inpainting by the same rule: at "
            "least 0",
            lead(figures, arm, rival),
            lambda v: v >= 0,
        ),
    ]


def lead(figures: Figures, arm: str, other: str) -> float:
    """Of all faults, refused repairs counted as nothing removed."""
    return figures(arm, "repair_gain_median") - figures(other, "repair_gain_median")


def goals(figures: Figures) -> list[str]:
    """Each goal with its figure, and whether it is met."""
    contained = figures("ours", "containment")
    checks: list[Goal] = [
        ("largest error of planted components: at most 1e-6", figures("ours", "planted_error"), lambda v: v <= 1e-6),
        (
            "containment over that of random directions of equal norm: at least 2",
            contained / figures("random_direction", "containment"),
            lambda v: v >= 2,
        ),
        (
            "containment over that of the decoder with random weights: at least 2",
            contained / figures("random_weights", "containment"),
            lambda v: v >= 2,
        ),
        (
            "culprit among the first three components: at least 0.8",
            figures("ours", "culprit_top3"),
            lambda v: v >= 0.8,
        ),
        *repair_goals(figures, "components alone, without a second opinion", "ours/no_anchor", "inpainting/no_anchor"),
        *repair_goals(figures, "components alone, with it", "ours", "inpainting"),
        *repair_goals(figures, "what the command takes", "explain", "inpainting"),
        (
            "components alone where one was planted three times as strong, which turning down fits: median share "
            "of the error inside that is removed, less that of inpainting: at least 0",
            lead(figures, "ours/no_anchor/tripled", "inpainting/no_anchor/tripled"),
            lambda v: v >= 0,
        ),
        (
            "processor seconds, nine patches with all sets: at most 120",
            figures("ours", "seconds_9"),
            lambda v: v <= 120,
        ),
        (
            "processor seconds, whole image at order two: at most 180",
            figures("ours", "seconds_36"),
            lambda v: v <= 180,
        ),
    ]
    words = [
        "not measured" if math.isnan(value) else f"{value:.3g}, {'met' if met(value) else '**missed**'}"
        for _, value, met in checks
    ]
    return [f"- {goal}: {word}" for (goal, _, _), word in zip(checks, words, strict=True)]


def draw_curves(cells: Cells, rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Mean curves of deletion and insertion, and errors on held-out blocks."""
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6))
    grid = np.linspace(0, 1, 201)
    for axis, metric in zip(axes, ("deletion", "insertion"), strict=False):
        for arm in CURVES:
            found = [np.array(c[metric]).T for cell in cells["whole"] for c in cell["curves"] if c["arm"] == arm]
            if found:
                axis.plot(grid, np.mean([np.interp(grid, *curve) for curve in found], 0), label=arm, lw=1.2)
        axis.set(xlabel=f"{metric}: share outside the region", ylabel="share inside", title=metric)
    axes[0].legend(fontsize=7, frameon=False)
    values = Figures(list(rows))
    for arm in PREDICTED:
        heights = [values(arm, f"heldout_additivity_block_{size}") for size in BLOCKS]
        axes[2].plot(BLOCKS, heights, marker="o", markersize=3, lw=1.2, label=arm)
    axes[2].set(xlabel="patches dropped together", ylabel="|error| / |f - f0|", title="held-out sets", yscale="log")
    axes[2].set_xticks(BLOCKS, [str(size) for size in BLOCKS])
    axes[2].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def draw_repairs(work: Path, file: Path) -> None:
    """A column a fault, the first ones: without it, with it, and what each arm leaves."""
    columns = []
    for number in range(SHOWN):
        kept: dict[str, Any] = {}
        for kind in ("fault", "donor"):
            with np.load(work / "cells" / f"{kind}-{number}.npz") as data:
                kept |= {name: data[name] for name in data.files}
        tiles = [Image.fromarray(kept[name]).resize((TILE, TILE), Image.Resampling.NEAREST) for name in PICTURES]
        columns.append(np.concatenate([np.asarray(tile) for tile in tiles]))
    Image.fromarray(np.concatenate(columns, axis=1)).save(file, optimize=True)
