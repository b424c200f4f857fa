"""Page and figures of the inversion benchmark; see inversion.py."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tests.benchmarks.inversion.parts import Bench
from tests.benchmarks.inversion.rows import Cells, load, rows_of
from tests.benchmarks.inversion.sets import ImageSet
from tests.benchmarks.pages import DOCS, markdown_table, write_json
from tests.benchmarks.seedselect.page import Figures, fill

BASELINES = ("generator_only", "pixel")
CHANGED = ("images_per_second", "agreement", "verifier", "student_accuracy", "frechet", "coverage", "steps")
SHOWN = 6  # pictures of a class in the figure
ENLARGED = 2
CAPTION = 14  # pixels


@dataclass(frozen=True)
class Section:
    """What was made of a set, and its figures."""

    images: ImageSet
    made: dict[str, Cells]
    rows: list[dict[str, Any]]

    @property
    def figures(self) -> Figures:
        """By arm without the set's name."""
        mark = f"{self.images.name}/"
        return Figures([entry | {"arm": entry["arm"].removeprefix(mark)} for entry in self.rows])

    @property
    def changed(self) -> list[str]:
        """Arms that differ from another in one switch."""
        return [arm for arm in self.made if "/" in arm]


def measure_set(bench: Bench, folder: Path) -> Section:
    """The section of all that the folder holds."""
    made = load(folder)
    return Section(bench.images, made, rows_of(bench, made))


def draw_figure(section: Section) -> None:
    """A block an arm, a row a class; the first pictures of the lowest seed, so none is chosen."""
    blocks = [(arm, _grid(cells[min(cells)])) for arm, cells in section.made.items() if arm not in section.changed]
    width = max(block.width for _, block in blocks) + 8
    sheet = Image.new("RGB", (width * len(blocks), CAPTION + max(block.height for _, block in blocks)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (arm, block) in enumerate(blocks):
        draw.text((place * width + 2, 1), arm, fill="black")
        sheet.paste(block, (place * width, CAPTION))
    (DOCS / "figures").mkdir(parents=True, exist_ok=True)
    sheet.save(DOCS / "figures" / f"inversion-{section.images.name}.png", optimize=True)


def _grid(values: dict[str, Any]) -> Image.Image:
    labels, images = values["labels"], values["images"]
    if images.shape[-1] == 1:
        images = images.repeat(3, axis=-1)
    classes, counts = np.unique(labels, return_counts=True)
    shown = min(SHOWN, int(counts.min()))
    lines = [np.concatenate(list(images[labels == label][:shown]), axis=1) for label in classes]
    grid = Image.fromarray(np.concatenate(lines))
    return grid.resize((grid.width * ENLARGED, grid.height * ENLARGED), Image.Resampling.NEAREST)


def goals(section: Section) -> list[str]:
    """Each goal with its figures, and whether it is met."""
    return [_student_goal(section), _speed_goal(section)]


def _student_goal(section: Section) -> str:
    """Within the intervals: ours is at least as good, or its interval and that of the better baseline meet."""
    figures, accuracy = section.figures, "student_accuracy"
    best = max(BASELINES, key=lambda arm: _or_lowest(figures(arm, accuracy)))
    lead = figures("ours", accuracy) - figures(best, accuracy)
    meets = lead >= 0 or figures.interval("ours", accuracy)[1] >= figures.interval(best, accuracy)[0]
    return (
        f"- {section.images.title}: student of ours at least as accurate as that of the better baseline, within the "
        f"intervals: {figures('ours', accuracy):.3f} beside {figures(best, accuracy):.3f} of {best} ({lead:+.3f}), "
        f"{_verdict(meets)}"
    )


def _speed_goal(section: Section) -> str:
    """Beside the published arm that agrees most, but no more than ours: at equal agreement the ratio is larger."""
    figures = section.figures
    agreed = {arm: figures(arm, "agreement") for arm in section.made if arm.startswith("published")}
    slower = [arm for arm, agreement in agreed.items() if agreement <= figures("ours", "agreement")]
    arm = max(slower, key=lambda arm: agreed[arm], default="published")
    ratio = figures("ours", "images_per_second") / figures(arm, "images_per_second")
    if math.isnan(ratio):
        return f"- {section.images.title}: the published method was not run; its speed is not compared"
    return (
        f"- {section.images.title}: at least 3 times the images a second of published at equal teacher agreement: "
        f"{ratio:.2f} times those of `{arm}`, agreement {figures('ours', 'agreement'):.3f} beside "
        f"{figures(arm, 'agreement'):.3f}, {_verdict(ratio >= 3)}"
    )


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def compare(figures: Figures, metric: str, lower_is_better: bool = False) -> str:
    """How ours stands to each baseline in a metric."""
    words = []
    for arm in BASELINES:
        low, high = figures.interval("ours", metric)
        other_low, other_high = figures.interval(arm, metric)
        lead = figures("ours", metric) - figures(arm, metric)
        apart = low > other_high or high < other_low
        word = "level with" if lead == 0 else "ahead of" if (lead < 0) == lower_is_better else "behind"
        remark = ", one seed" if math.isnan(low) or math.isnan(other_low) else "" if apart else ", intervals meet"
        words.append(f"{word} {arm} ({lead:+.3g}{remark})")
    return ", ".join(words)


def changes_table(section: Section) -> str:
    """What changes when one switch does, beside ours on the same seeds."""
    if not section.changed:
        return ""
    figures = section.figures
    lines = ["| changed | " + " | ".join(CHANGED) + " |", "|---" * (len(CHANGED) + 1) + "|"]
    lines += [
        f"| {arm} | " + " | ".join(_number(figures(arm, metric)) for metric in CHANGED) + " |"
        for arm in section.changed
    ]
    return "One switch changed at a time:\n\n" + "\n".join(lines) + "\n\n"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def fill_section(section: Section, facts: Mapping[str, Any]) -> str:
    """What was measured of one set."""
    images, figures = section.images, section.figures
    shown = [entry for entry in section.rows if entry["arm"].removeprefix(f"{images.name}/") not in section.changed]
    seconds = sum(float(values["cell_seconds"]) for cells in section.made.values() for values in cells.values())
    seeds = ", ".join(f"{arm} {len(cells)}" for arm, cells in section.made.items() if arm not in section.changed)
    full = figures("published", "images_per_second") * facts["steps"] / facts["published_full"]
    about = (
        f"{images.note} It is right on {figures('teacher', 'test_accuracy'):.2%} of the test images, the verifier on "
        f"{figures('verifier', 'test_accuracy'):.2%}. Of each arm and seed {images.count} images, from which a student "
        f"learns {images.kd_steps} steps; {seconds / 60:.0f} processor minutes, without the training of teacher and "
        f"verifier; seeds: {seeds}."
    )
    means = (
        f"Student accuracy of ours: {compare(figures, 'student_accuracy')}; verifier: {compare(figures, 'verifier')}; "
        f"Frechet distance: {compare(figures, 'frechet', lower_is_better=True)}. Students of real images reach "
        f"{figures('real', 'student_accuracy'):.1%}, those of ours {figures('ours', 'student_accuracy'):.1%}."
    )
    if not math.isnan(full):
        means += (
            f" With all of its {facts['published_full']} steps, at the measured cost of a step, published would make "
            f"{full:.3f} images a second, and ours {figures('ours', 'images_per_second') / full:.0f} times as many."
        )
    picture = f"![The first pictures of each arm, none chosen; a row a class](figures/inversion-{images.name}.png)"
    table = changes_table(section) + picture
    return "\n\n".join([f"### {images.title}", fill(about), markdown_table(shown), table, fill(means)])


def write_page(sections: Sequence[Section], facts: Mapping[str, Any]) -> None:
    """docs/benchmarks/inversion.{json,md} and its figures."""
    for section in sections:
        draw_figure(section)
        for arms_seeds in sorted({tuple(sorted(cells)) for cells in section.made.values()} | {()}):
            write_json("inversion", list(arms_seeds), _rows_of_seeds(section, arms_seeds))
    template = (Path(__file__).parent / "page.md").read_text()
    page = template.format(
        **facts,
        sections="\n\n".join(fill_section(section, facts) for section in sections),
        goals="\n".join(goal for section in sections for goal in goals(section)),
    )
    (DOCS / "inversion.md").write_text(page)


def _rows_of_seeds(section: Section, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """The rows made with just these seeds: a row names its own."""
    mark = f"{section.images.name}/"
    return [
        entry for entry in section.rows if tuple(sorted(section.made.get(entry["arm"].removeprefix(mark), ()))) == seeds
    ]
