"""Page and figure of the SeedSelect benchmark; see seedselect.py."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tailforge.catalog.sources.models import MODELS
from tailforge.tasks.methods.workshop import TAIL_PARTS
from tailforge.tasks.models.judges import load_judges
from tests.benchmarks.pages import DOCS, markdown_table, write_json
from tests.benchmarks.seedselect.rows import (
    COMMON,
    UNCHANGED,
    Cells,
    confident_rows,
    cost_row,
    features_of,
    lead_row,
    load,
    part_rows,
    render_rows,
    rows_of,
)

Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
RIVALS = ("best_of_n", "zero_order", "published")
COMPARED = (*RIVALS, "ours_bootstrapped")  # in seconds
SHOWN = 8  # pictures of an arm and part in the figure


def draw_figure(made: dict[str, Cells], references: Sequence[Pictures]) -> None:
    """A column an arm, a row a rare part; the first pictures of the lowest seed, so none is chosen."""
    side, label = 64, 14
    width = SHOWN // 2 * side + 8
    sheet = Image.new("RGB", (width * (len(made) + 1), (2 * side + 8) * len(TAIL_PARTS) + label), "white")
    draw = ImageDraw.Draw(sheet)
    for column, arm in enumerate(["references", *made]):
        draw.text((column * width + 2, 1), arm, fill="black")
        for line, part in enumerate(TAIL_PARTS):
            key = min((key for key in made.get(arm, {}) if key[0] == part), default=None)
            images: Pictures = references[line] if arm == "references" else made[arm][key]["images"] if key else ()
            for number, image in enumerate(images[:SHOWN]):
                x, y = (
                    column * width + number % (SHOWN // 2) * side,
                    label + line * (2 * side + 8) + number // (SHOWN // 2) * side,
                )
                sheet.paste(Image.fromarray(image), (x, y))
    (DOCS / "figures").mkdir(parents=True, exist_ok=True)
    sheet.save(DOCS / "figures" / "seedselect.png")


class Figures:
    """The rows by arm and metric."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = {(entry["arm"], entry["metric"]): entry for entry in rows}

    def __call__(self, arm: str, metric: str) -> float:
        """A value; not a number where it was not measured."""
        return float(self.rows[arm, metric]["value"]) if (arm, metric) in self.rows else math.nan

    def __getitem__(self, key: str) -> float:
        """`figures["ours success_rare"]`, or, with `low` or `high` before it, an end of its interval."""
        bound, _, rest = key.partition(" ")
        if bound in ("low", "high"):
            return self.interval(*rest.rsplit(" ", 1))[bound == "high"]
        return self(*key.rsplit(" ", 1))

    def interval(self, arm: str, metric: str) -> tuple[float, float]:
        """Its interval; not numbers where it has none."""
        entry = self.rows.get((arm, metric))
        return (math.nan, math.nan) if entry is None or entry["low"] is None else (entry["low"], entry["high"])


def goals(figures: Figures) -> list[str]:
    """Each goal with its figure, and whether it is met."""
    ours, boot, seconds, rare = "ours", "ours_bootstrapped", "seconds_per_image", "success_rare"
    kept = figures(ours, "diversity_rare") / figures("plain", "diversity_common")
    lead = figures(ours, rare) - figures("published", rare)
    lowest, _ = figures.interval("ours - best_of_n", rare)
    costs = {arm: figures(f"{arm} / ours", seconds) for arm in ("published", "best_of_n", boot)}
    checks: list[tuple[str, float, Callable[[float], bool]]] = [
        ("success of plain sampling on rare parts at most 0.40", figures("plain", rare), lambda v: v <= 0.40),
        ("success of ours on rare parts at least 0.90", figures(ours, rare), lambda v: v >= 0.90),
        ("diversity of ours on rare parts over plain's on common parts at least 0.85", kept, lambda v: v >= 0.85),
        (
            "seconds of published over those of ours, on the same parts and seeds, at least 5",
            costs["published"],
            lambda v: v >= 5,
        ),
        ("success of ours minus that of published at least 0", lead, lambda v: v >= 0),
        (
            "success of ours minus that of best-of-N: the interval, seed by seed, begins above 0 (its seconds are "
            f"{costs['best_of_n']:.2f} times those of ours)",
            lowest,
            lambda v: v > 0,
        ),
        (
            "seconds of ours over those of bootstrapped (without finding seeds) at least 3",
            1 / costs[boot],
            lambda v: v >= 3,
        ),
        ("success of bootstrapped on rare parts at least 0.85", figures(boot, rare), lambda v: v >= 0.85),
    ]
    return [f"- {goal}: {number:.3g}, {'met' if met(number) else '**missed**'}" for goal, number, met in checks]


def part_table(figures: Figures, arms: Sequence[str]) -> str:
    """Success by arm and part."""
    lines = ["| arm | " + " | ".join(TAIL_PARTS) + " |", "|---" * (len(TAIL_PARTS) + 1) + "|"]
    for arm in arms:
        values = [figures(arm, f"success {part}") for part in TAIL_PARTS]
        lines.append(f"| {arm} | " + " | ".join("" if math.isnan(v) else f"{v:.2f}" for v in values) + " |")
    return "\n".join(lines)


def ablation_table(figures: Figures, arms: Sequence[str]) -> str:
    """What changes when one setting of ours does."""
    metrics = ("success_rare", "diversity_rare", "forward_evaluations", "backward_evaluations", "seconds_per_image")
    lines = ["| changed | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    lines += [f"| {arm} | " + " | ".join(f"{figures(arm, metric):.3g}" for metric in metrics) + " |" for arm in arms]
    return "\n".join(lines)


def seeds_of(made: Cells) -> list[int]:
    """The seeds that it was made with."""
    return sorted({seed for _, seed in made})


def count_images(made: dict[str, Cells]) -> str:
    """Arms by how many images they have: what the intervals rest on."""
    arms: dict[str, list[str]] = defaultdict(list)
    for arm, own in made.items():
        images = sum(len(values["images"]) for (part, _), values in own.items() if part in TAIL_PARTS)
        arms[f"{images} images of rare parts with {len(seeds_of(own))} seed(s)"].append(f"`{arm}`")
    return "\n".join(f"- {count}: {', '.join(names)}." for count, names in arms.items())


def write_page(work: Path, references: Sequence[Pictures], extra: Sequence[dict[str, Any]]) -> None:
    """docs/benchmarks/seedselect.{json,md} and its figure, with `extra` rows of the guide and of memory."""
    judges, made = load_judges(MODELS / "judges"), load(work)
    order = [*TAIL_PARTS, *COMMON]
    renders = {part: features_of(judges, np.asarray(images)) for part, images in zip(order, references, strict=True)}
    arms = {arm: own for arm, own in made.items() if "/" not in arm}
    changed = [arm for arm in made if arm not in arms]
    rows = [
        entry | {"seeds": seeds_of(own)} for arm, own in made.items() for entry in rows_of(arm, own, renders, judges)
    ]
    rows += render_rows(renders, max(len(values["images"]) for own in made.values() for values in own.values()))
    by_part = [entry for arm, own in arms.items() for entry in part_rows(arm, own, judges)]
    leads = [lead_row(made["ours"], made[rival], rival, judges) for rival in RIVALS if {"ours", rival} <= set(made)]
    costs = [cost_row(made["ours"], made[arm], arm) for arm in COMPARED if {"ours", arm} <= set(made)]
    rows += [*leads, *costs, *confident_rows("ours", made["ours"], judges), *extra]
    write_json(
        "seedselect", seeds_of({key: values for own in made.values() for key, values in own.items()}), [*rows, *by_part]
    )
    draw_figure(arms, references)
    figures = Figures([*rows, *by_part])
    template = (Path(__file__).parent / "page.md").read_text()
    page = template.format(
        figures=figures,
        table=markdown_table([entry for entry in rows if entry["arm"] not in changed]),
        counts=count_images(made),
        parts=part_table(figures, list(arms)),
        ablations=ablation_table(figures, ["ours_bootstrapped", *sorted(changed, key=lambda arm: arm != UNCHANGED)]),
        goals="\n".join(goals(figures)),
    )
    (DOCS / "seedselect.md").write_text("\n\n".join(map(fill, page.split("\n\n"))))


def fill(paragraph: str) -> str:
    """A paragraph of running text wrapped anew, after figures were put into it; others as they are."""
    running = paragraph and paragraph[0].isalpha()
    return textwrap.fill(paragraph, 120, break_on_hyphens=False, break_long_words=False) if running else paragraph
