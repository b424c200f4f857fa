"""Rows and page of the benchmark of worth, from the records of its evaluations."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tailforge.tasks.methods.evaluation.arms import AGAINST, CURVE
from tailforge.tasks.methods.intervals import student_interval
from tailforge.tasks.methods.workshop import TAIL_PARTS
from tests.benchmarks.pages import DOCS, row, write_json
from tests.benchmarks.worth import workshop
from tests.benchmarks.worth.sets import SETS

RARE = {name: each.rare for name, each in SETS.items()} | {workshop.NAME: TAIL_PARTS}  # rare classes by set
TEMPLATE = Path(__file__).parent / "page.md"
ARMS = {"mixed": "ours", "alone": "ours_alone", CURVE: "real_held_back"}  # names of the page; others are equal
SHOWN = ("tail_recall", "head_recall", "macro_recall")


def write_results(work: Path, seeds: Iterable[int], names: Iterable[str]) -> None:
    """Write docs/benchmarks/worth.json and worth.md from what was measured of some sets in `work`, with these seeds."""
    rows = [each for name in names for each in set_rows(work / name)]
    write_json("worth", list(seeds), rows)
    every = json.loads((DOCS / "worth.json").read_text())["rows"]
    page = TEMPLATE.read_text(encoding="utf-8")
    (DOCS / "worth.md").write_text(page.replace("{{tables}}", "\n\n".join(table(every, name) for name in RARE)))


def set_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of one set; none if it was not measured."""
    file = folder / "evaluation.json"
    if not file.exists():
        return []
    record = json.loads(file.read_text())
    names = [each["name"] for each in record["classes"]]
    rare = [place for place, each in enumerate(record["classes"]) if each["name"] in RARE[folder.name]]
    runs = [each for each in pq.read_table(record["files"]["runs"]).to_pylist() if each["chosen"]]

    # Recall per arm: a mean over classes per seed, then Student's interval over the seeds.
    found = []
    for arm, label in arms_of(runs):
        scores = np.array([each["scores"] for each in runs if (each["arm"], each["setting"]) == (arm, label)])
        head = [place for place in range(len(names)) if place not in rare]
        name = f"{folder.name}/{name_arm(arm)}"
        for metric, chosen in (("macro_recall", range(len(names))), ("tail_recall", rare), ("head_recall", head)):
            found.append(over_seeds(name, metric, scores[:, list(chosen)].mean(axis=1)))
    return found + gain_rows(record, folder.name)


def name_arm(arm: str) -> str:
    """Return the page's name of an arm; of a rival version the last part of its name, such as plain."""
    if arm.startswith(AGAINST):
        return re.split("[-_]", arm.removeprefix(AGAINST).partition("@")[0])[-1]
    return ARMS.get(arm, arm)


def arms_of(runs: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return arm and setting of all chosen runs; of a learning curve its last point alone."""
    arms = list(dict.fromkeys((each["arm"], each["setting"]) for each in runs))
    curve = [each for each in arms if each[0] == CURVE]
    return [each for each in arms if each not in curve[:-1]]


def gain_rows(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return gains over the best real-only arm, shares, costs and the exchange rate of one set."""
    found = []
    for gain in record["gains"]:
        arm, told = f"{name}/{name_arm(gain['arm'])}", gain["gain_tail"]
        found.append(row(arm, "gain_tail", told["value"], "share", told["low"], told["high"]))
    shares = {each["arm"]: each["share"] for each in record["arms"]}
    found.append(row(f"{name}/ours", "share", shares["mixed"], "share"))
    seconds = record["costs"]["generation_seconds"][record["version"]]
    if seconds is not None:
        found.append(row(f"{name}/ours", "generation_seconds", seconds, "s"))
    rate = (record.get("exchange") or {}).get("per_hundred")
    if rate and rate["value"] is not None:
        found.append(row(f"{name}/ours", "exchange_rate", rate["value"], "real per 100", rate["low"], rate["high"]))
    return found


def over_seeds(arm: str, metric: str, values: Sequence[float]) -> dict[str, Any]:
    """Return a row: the mean over seeds with Student's 95 % interval."""
    low, high = student_interval(list(values))
    return row(arm, metric, float(np.mean(values)), "share", low, high)


def table(rows: Sequence[dict[str, Any]], name: str) -> str:
    """Return the table of one set in Markdown, or a line that it was not run."""
    told = {
        (each["arm"].removeprefix(f"{name}/"), each["metric"]): each
        for each in rows
        if each["arm"].startswith(f"{name}/")
    }
    if not told:
        return f"### {name}\n\nNot run yet."
    lines = [
        f"### {name}",
        "",
        "| arm | rare classes | other classes | all classes | gain of rare classes |",
        "|---|---|---|---|---|",
    ]
    for arm in dict.fromkeys(arm for arm, metric in told if metric == "macro_recall"):
        cells = [show(told.get((arm, metric))) for metric in (*SHOWN, "gain_tail")]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def show(each: dict[str, Any] | None) -> str:
    """Return a figure in points with its interval; empty without one."""
    if each is None:
        return ""
    return f"{100 * each['value']:.1f} ({100 * each['low']:.1f} to {100 * each['high']:.1f})"
