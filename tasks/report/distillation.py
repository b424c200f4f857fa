"""Draw the report page of a distilled student: one self-contained HTML file from report.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from tailforge.schemas.documents.shown import count_of

WIDTH, HEIGHT = 640.0, 160.0
LABELS = ", plus the weighted cross entropy with the labels"
UNSHOWN = ("steps", "student")  # settings shown elsewhere on the page


def draw_distillation(report: Mapping[str, Any], template: str) -> str:
    """Return the HTML of a report of tasks/training/student.py, from the text of its template."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    values = [value for _, value in report["losses"]]

    return environment.from_string(template).render(
        **report,
        classes=list(zip(report["per_class"], report["teacher_per_class"], strict=True)),
        count=count_of,
        percent=show_percent,
        interval=lambda share: f"{show_percent(share['low'])} to {show_percent(share['high'])}",
        number=lambda value: f"{value:.3g}",
        curve=_trace(report["losses"], max(values)),
        first=values[0],
        last=values[-1],
        highest=max(values),
        width=WIDTH,
        height=HEIGHT,
        facts=_list_facts(report),
    )


def show_percent(share: float | None) -> str:
    """Return a share in per cent with one decimal; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"


def _trace(losses: Sequence[Sequence[float]], highest: float) -> str:
    last, top = losses[-1][0], highest or 1.0
    return " ".join(f"{WIDTH * step / last:.1f},{HEIGHT * (1 - value / top):.1f}" for step, value in losses)


def _list_facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    settings = {name: value for name, value in report["settings"].items() if name not in UNSHOWN}
    enlarged = report["student"]["enlarge"]
    return [
        ("loss", "T² KL(teacher, student) on augmented views" + (LABELS if settings["label_weight"] > 0 else "")),
        *((name.replace("_", " "), str(value)) for name, value in settings.items()),
        ("images enlarged for the student", f"{enlarged} times" if enlarged > 1 else "no"),
        ("teacher, sha256 of its files", report["teacher"]["digest"]),
        ("minutes of training", str(report["minutes"])),
        *((name, str(version)) for name, version in report["versions"].items()),
    ]
