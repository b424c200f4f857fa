"""Page and figure of the masks benchmark; see masks.py."""

import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.tasks.methods.masks.codec import encode_mask
from tailforge.tasks.methods.masks.soft_masks import Word
from tailforge.tasks.methods.workshop import PARTS
from tailforge.tasks.report.overlays import draw_overlay
from tests.benchmarks.masks.absent import ANOTHER, NOTHING
from tests.benchmarks.masks.images import OURS, Set
from tests.benchmarks.masks.rows import CONCEPT, GATE, PLAIN, SURFACE, choose_pictures, outline_all
from tests.benchmarks.pages import DOCS
from tests.benchmarks.seedselect.page import Figures

TILE = 96
USES = ("contrastive", "masked", "caption")
ARMS = ("none", "box", "attention", "truth")
LEARNT = (
    "probe_part",
    "knn_part",
    "probe_material",
    "knn_material",
    "segmentation_miou",
    "segmentation_frozen_miou",
)
JUDGED = ("probe_part", "segmentation_miou")  # what masks are meant to help
OBJECTS = (
    "object_recall",
    "object_precision",
    "object_count",
    "mean_confidence",
    "mean_overlap",
    "crowds",
    "crowd_precision",
)
ABSENT = ("with_a_mask", "largest_area", "highest_confidence", "precision_kept")
RIVALS = ("stored_maps", "per_head")
COSTS = ("time_overhead", "wall_overhead", "memory_overhead")


def draw_figure(made: Set) -> None:
    """A column a part: the picture, its mask on the coarse map, ours, and part and surface asked for together."""
    shown = choose_pictures(made, 1)
    rows: list[list[tuple[NDArray[np.uint8], bytes | None]]] = []
    both = [Word(CONCEPT, 1), Word(SURFACE, 2, thing=False)]
    rows.append([(image, None) for image in shown["images"]])
    for words, settings in (([Word(CONCEPT, 1)], PLAIN), ([Word(CONCEPT, 1)], {}), (both, {})):
        found = outline_all(shown, OURS, words, **settings)
        rows.append([(image, encode_mask(each.mask)) for image, each in zip(shown["images"], found, strict=True)])
    sheet = Image.new("RGB", (TILE * len(rows[0]), TILE * len(rows)))
    for line, tiles in enumerate(rows):
        for column, (image, mask) in enumerate(tiles):
            sheet.paste(_lay(image, mask), (column * TILE, line * TILE))
    (DOCS / "figures").mkdir(parents=True, exist_ok=True)
    sheet.save(DOCS / "figures" / "masks.png", optimize=True)


def _lay(image: NDArray[np.uint8], mask: bytes | None) -> Image.Image:
    tile = Image.fromarray(image).convert("RGBA").resize((TILE, TILE), Image.Resampling.LANCZOS)
    if mask is None:
        return tile.convert("RGB")
    overlay = Image.open(io.BytesIO(draw_overlay(mask, stuff=[2]))).convert("RGBA").resize((TILE, TILE))
    return Image.alpha_composite(tile, overlay).convert("RGB")


def write_page(images: int, renders: int, seeds: int) -> None:
    """docs/benchmarks/masks.md from all rows of masks.json."""
    rows = json.loads((DOCS / "masks.json").read_text())["rows"]
    figures = Figures(rows)
    template = (Path(__file__).parent / "page.md").read_text()
    page = template.format(
        images=images,
        renders_per_seed=renders,
        seeds=seeds,
        gate=GATE,
        goals="\n".join(goals(figures)),
        quality=tabulate_arms(rows, _is_quality, ("miou_head", "miou_tail_plain", "miou_surface", "miou_two_objects")),
        ours=_list(figures, OURS),
        parts=_part_table(figures),
        objects=tabulate_arms(rows, lambda arm: _kind(arm) == "instances", OBJECTS),
        absent=tabulate_arms(rows, lambda arm: _kind(arm) == "absent", ABSENT),
        renders=tabulate_arms(rows, lambda arm: arm.startswith("renders/"), ("miou",)),
        cost=tabulate_arms(rows, lambda arm: arm == OURS or _kind(arm) == "cost", COSTS),
        learning=tabulate_arms(rows, _is_learning, LEARNT),
    )
    (DOCS / "masks.md").write_text(page, encoding="utf-8")


def _kind(arm: str) -> str:
    """Which table an arm belongs to."""
    if arm.split("/")[0] in (*USES, "random"):
        return "learning"
    if (kind := arm.split("/")[0]) in ("instances", "absent"):
        return kind
    if arm.split("/")[0] in (*RIVALS, "plain"):
        return "cost"
    return "quality"


def _is_learning(arm: str) -> bool:
    return _kind(arm) == "learning"


def _is_quality(arm: str) -> bool:
    return _kind(arm) == "quality" and not arm.startswith(("renders/", "ours/"))


def tabulate_arms(rows: Sequence[dict[str, Any]], wanted: Callable[[str], bool], metrics: Sequence[str]) -> str:
    """A line an arm that has one of the metrics, a column a metric that an arm has."""
    figures = Figures(rows)
    arms = [arm for arm in dict.fromkeys(row["arm"] for row in rows) if wanted(arm)]
    columns = [metric for metric in metrics if any((arm, metric) in figures.rows for arm in arms)]
    lines = ["| arm | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for arm in arms:
        cells = [show_figure(figures, arm, metric) for metric in columns]
        if any(cells):
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else "Not measured."


def show_figure(figures: Figures, arm: str, metric: str) -> str:
    value, (low, high) = figures(arm, metric), figures.interval(arm, metric)
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _list(figures: Figures, arm: str) -> str:
    """Every metric of an arm but the cost, a line each."""
    metrics = [metric for own, metric in figures.rows if own == arm and metric not in COSTS]
    lines = ["| metric | value |", "|---|---|"]
    return "\n".join([*lines, *(f"| {metric} | {show_figure(figures, arm, metric)} |" for metric in metrics)])


def _part_table(figures: Figures) -> str:
    lines = ["| part | mean over pictures | summed over pictures |", "|---|---|---|"]
    for part in PARTS:
        cells = (show_figure(figures, f"ours/{part}", metric) for metric in ("miou", "iou_summed"))
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def goals(figures: Figures) -> list[str]:
    """Each goal with its figure, and whether it is met."""
    cost, memory = figures(OURS, "time_overhead"), figures(OURS, "memory_overhead")
    best = min(figures(arm, "time_overhead") for arm in RIVALS)
    composed = figures("composed renders of two parts", "miou_two_objects")
    kept = figures("absent/the part is drawn, ours", "precision_kept")
    checks: list[tuple[str, float, Callable[[float], bool]]] = [
        (
            "time of capture over that of plain sampling, batch 8, on one thread (two were asked for): at most 0.05",
            cost,
            lambda v: v <= 0.05,
        ),
        ("memory of capture over that of plain sampling: at most 0.01", memory, lambda v: v <= 0.01),
        (
            "time of the cheaper rival's capture over ours (0: the rival costs none): at least 3",
            _ratio(best, cost),
            lambda v: v >= 3,
        ),
        ("mean overlap on generated head parts: at least 0.75", figures(OURS, "miou_head"), lambda v: v >= 0.75),
        ("on rare parts made by SeedSelect: at least 0.65", figures(OURS, "miou_rare"), lambda v: v >= 0.65),
        (
            f"share of right masks (overlap of {0.5} or more) among those that the confidence gate keeps: at least 0.9",
            figures(OURS, "precision_kept"),
            lambda v: v >= 0.9,
        ),
        (
            "prompts with two objects, part and surface of generated pictures: at least 0.6",
            figures(OURS, "miou_two_objects"),
            lambda v: v >= 0.6,
        ),
        ("the same, two different parts of composed renders: at least 0.6", composed, lambda v: v >= 0.6),
        *(
            (f"words with a mask where {case}: at most 0.05", figures(f"absent/{case}, ours", "with_a_mask"), _is_rare)
            for case in (NOTHING, ANOTHER)
        ),
        ("share of right masks among those kept of drawn parts: at least 0.9", kept, lambda v: v >= 0.9),
    ]
    lines = [f"- {goal}: {number:.3g}, {'met' if met(number) else '**missed**'}" for goal, number, met in checks]
    return [*lines, _learning_goal(figures)]


def _is_rare(share: float) -> bool:
    return share <= 0.05


def _ratio(rival: float, ours: float) -> float:
    """How many times the rival costs ours; 0 where the rival costs nothing, endless where only ours does."""
    return 0.0 if rival <= 0 else rival / ours if ours > 0 else math.inf


def _learning_goal(figures: Figures) -> str:
    won = {use: [metric for metric in JUDGED if _beats(figures, use, metric)] for use in USES}
    counted = {use: metrics for use, metrics in won.items() if metrics}
    words = "; ".join(f"{use}: {', '.join(metrics)}" for use, metrics in counted.items()) or "in none"
    return (
        "- attention masks ahead of no masks and of random boxes beyond the intervals of the differences seed by seed, "
        f"in part probe or segmentation, in at least two of the three uses: {words}, "
        f"{'met' if len(counted) >= 2 else '**missed**'}"
    )


def _beats(figures: Figures, use: str, metric: str) -> bool:
    """Attention less each control, seed by seed: the whole interval above 0."""
    return all(figures.interval(f"{use}/attention - {arm}", metric)[0] > 0 for arm in ("none", "box"))
