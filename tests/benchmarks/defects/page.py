"""Page of the defects benchmark."""

import json
from pathlib import Path

from tests.benchmarks.masks.page import tabulate_arms
from tests.benchmarks.pages import DOCS
from tests.benchmarks.seedselect.page import Figures

GOALS = {"mask_iou": 0.90, "boundary_f": 0.85}
SHOWN = ("mask_iou", "boundary_f", "outside_changed", "mask_share")
EXACT = ("exact_iou", "exact_boundary_f")
WORTH = ("iou_crack", "iou_dark", "iou_star", "miou", "gain_miou")


def write_page() -> None:
    """Write docs/benchmarks/defects.md from all rows of defects.json."""
    rows = json.loads((DOCS / "defects.json").read_text())["rows"]
    template = (Path(__file__).parent / "page.md").read_text()
    page = template.format(
        pictures=", ".join(f"{row['value']} of {row['arm']}" for row in rows if row["metric"] == "pictures"),
        goals="\n".join(list_goals(Figures(rows))),
        published=tabulate_arms(rows, _is_workshop, SHOWN),
        exact=tabulate_arms(rows, _is_workshop, EXACT),
        cells=tabulate_arms(rows, lambda arm: not _is_workshop(arm), WORTH),
    )
    (DOCS / "defects.md").write_text(page, encoding="utf-8")


def list_goals(figures: Figures) -> list[str]:
    """Return one line per goal and arm: the figure, and whether it is met."""
    lines = []
    for metric, least in GOALS.items():
        for arm in dict.fromkeys(arm for arm, own in figures.rows if own == metric):
            value = figures(arm, metric)
            judged = "met" if value >= least else "**missed**"
            lines.append(f"- {metric} of {arm}, at least {least:g}: {value:.3f}, {judged}")
    return lines


def _is_workshop(arm: str) -> bool:
    return arm.startswith("workshop/")
