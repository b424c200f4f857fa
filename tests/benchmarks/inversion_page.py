"""Page and figure of the inversion benchmark; see inversion.py."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tests.benchmarks.inversion_parts import Bench
from tests.benchmarks.inversion_rows import SET, Cells, load, rows_of
from tests.benchmarks.pages import DOCS, ROOT, markdown_table, write_json
from tests.benchmarks.seedselect_page import Figures

BASELINES = ("generator_only", "pixel")
CHANGED = ("images_per_second", "agreement", "verifier", "student_accuracy", "frechet", "coverage", "steps")
SHOWN = 10  # pictures of a class in the figure
ENLARGED = 2
CAPTION = 14  # pixels


def draw_figure(made: dict[str, Cells]) -> None:
    """A block an arm, a row a class; the first pictures of the lowest seed, so none is chosen."""
    blocks = [(arm, _grid(cells[min(cells)])) for arm, cells in made.items()]
    width = max(block.width for _, block in blocks) + 8
    sheet = Image.new("L", (width * len(blocks), CAPTION + max(block.height for _, block in blocks)), 255)
    draw = ImageDraw.Draw(sheet)
    for place, (arm, block) in enumerate(blocks):
        draw.text((place * width + 2, 1), arm, fill=0)
        sheet.paste(block, (place * width, CAPTION))
    (DOCS / "figures").mkdir(parents=True, exist_ok=True)
    sheet.save(DOCS / "figures" / "inversion.png", optimize=True)


def _grid(values: dict[str, Any]) -> Image.Image:
    labels, images = values["labels"], values["images"][..., 0]
    classes, counts = np.unique(labels, return_counts=True)
    shown = min(SHOWN, int(counts.min()))
    lines = [np.concatenate(list(images[labels == label][:shown]), axis=1) for label in classes]
    grid = Image.fromarray(np.concatenate(lines))
    return grid.resize((grid.width * ENLARGED, grid.height * ENLARGED), Image.Resampling.NEAREST)


def goals(figures: Figures) -> list[str]:
    """Each goal with its figures, and whether it is met."""
    return [_student_goal(figures), _speed_goal(figures)]


def _student_goal(figures: Figures) -> str:
    """Within the intervals: ours is at least as good, or its interval and that of the better baseline meet."""
    ours, accuracy = f"{SET}/ours", "student_accuracy"
    best = max((f"{SET}/{arm}" for arm in BASELINES), key=lambda arm: _or_lowest(figures(arm, accuracy)))
    lead = figures(ours, accuracy) - figures(best, accuracy)
    meets = lead >= 0 or figures.interval(ours, accuracy)[1] >= figures.interval(best, accuracy)[0]
    return (
        f"- student of ours at least as accurate as that of the better baseline, within the intervals: "
        f"{figures(ours, accuracy):.3f} beside {figures(best, accuracy):.3f} of {best} ({lead:+.3f}), {_verdict(meets)}"
    )


def _speed_goal(figures: Figures) -> str:
    """Published needs more steps where it agrees less, so then the ratio at equal agreement is larger still."""
    ours, published = f"{SET}/ours", f"{SET}/published"
    ratio = figures(ours, "images_per_second") / figures(published, "images_per_second")
    agreements = figures(ours, "agreement"), figures(published, "agreement")
    meets = ratio >= 3 and agreements[0] >= agreements[1]
    return (
        f"- at least 3 times the images a second of published at equal teacher agreement: {ratio:.2f} times, agreement "
        f"{agreements[0]:.3f} beside {agreements[1]:.3f}, {_verdict(meets)}"
    )


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def compare(figures: Figures, metric: str, lower_is_better: bool = False) -> str:
    """How ours stands to each baseline in a metric."""
    ours, words = f"{SET}/ours", []
    for arm in (f"{SET}/{name}" for name in BASELINES):
        low, high = figures.interval(ours, metric)
        other_low, other_high = figures.interval(arm, metric)
        lead = figures(ours, metric) - figures(arm, metric)
        apart = low > other_high or high < other_low
        word = "level with" if lead == 0 else "ahead of" if (lead < 0) == lower_is_better else "behind"
        words.append(f"{word} {arm} ({lead:+.3g}{'' if apart else ', intervals meet'})")
    return ", ".join(words)


def changes_table(figures: Figures, arms: Sequence[str]) -> str:
    """What changes when one switch of ours does, beside ours on the same seeds."""
    lines = ["| changed | " + " | ".join(CHANGED) + " |", "|---" * (len(CHANGED) + 1) + "|"]
    lines += [f"| {arm} | " + " | ".join(_number(figures(arm, metric)) for metric in CHANGED) + " |" for arm in arms]
    return "\n".join(lines)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def fill_template(made: dict[str, Cells], rows: Sequence[dict[str, Any]], facts: Mapping[str, Any]) -> str:
    """The page; `facts` are the settings that the benchmark ran with."""
    figures = Figures(rows)
    changed = [f"{SET}/{arm}" for arm in made if "/" in arm]
    seconds = sum(float(values["cell_seconds"]) for cells in made.values() for values in cells.values())
    full = figures(f"{SET}/published", "images_per_second") * facts["published_steps"] / facts["published_full"]
    template = (ROOT / "tests" / "benchmarks" / "inversion_page.md").read_text()
    return template.format(
        **facts,
        figures=figures,
        table=markdown_table([entry for entry in rows if entry["arm"] not in changed]),
        changes=changes_table(figures, changed),
        goals="\n".join(goals(figures)),
        students=compare(figures, "student_accuracy"),
        verified=compare(figures, "verifier"),
        distances=compare(figures, "frechet", lower_is_better=True),
        minutes=seconds / 60,
        seeds=", ".join(f"{arm} {len(cells)}" for arm, cells in made.items() if "/" not in arm),
        full=full,
        full_ratio=figures(f"{SET}/ours", "images_per_second") / full,
    )


def write_page(work: Path, bench: Bench, facts: Mapping[str, Any]) -> None:
    """docs/benchmarks/inversion.{json,md} and its figure."""
    made = load(work)
    rows = rows_of(bench, made)
    for seeds in sorted({tuple(sorted(cells)) for cells in made.values()} | {()}):  # a row names the seeds it has
        own = [entry for entry in rows if tuple(sorted(made.get(entry["arm"].removeprefix(f"{SET}/"), ()))) == seeds]
        write_json("inversion", list(seeds), own)
    draw_figure({arm: cells for arm, cells in made.items() if "/" not in arm})
    (DOCS / "inversion.md").write_text(fill_template(made, rows, facts))
