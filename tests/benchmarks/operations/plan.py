"""How near `tailforge plan` comes: a store with one build in it, then changed builds, each planned and then made."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.flows.estimate.cost import Estimate, plan_cost
from tailforge.flows.estimate.rates import count_bytes
from tailforge.schemas.prices import Prices
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import describe_machine
from tests.benchmarks.pages import ROOT, row

RECIPE = str(ROOT / "catalog" / "recipes" / "workshop.yaml")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PREFECT_API_URL": "",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
}
SMALL = ("partition_size=8", "engine.steps=8", "prompts.per_concept=20")
GOAL = 0.25
FIGURES = ("compute", "wall", "bytes", "images")


def settings(wanted: Mapping[str, int], *others: str) -> list[str]:
    """Overrides of the recipe: so many images of each concept."""
    concepts = [{"name": name, "requested": count} for name, count in wanted.items()]
    return [*SMALL, f"concepts={json.dumps(concepts)}", *others]


BEFORE = settings({"gear": 24, "bolt": 24})
CHANGES = {
    "more images": settings({"gear": 72, "bolt": 24}),
    "another concept": settings({"gear": 72, "bolt": 24, "spring": 40}),
    "further rounds": settings({"gear": 72, "bolt": 24, "spring": 40, "washer": 48}, "quality.oversample=1.0"),
    "everything anew": settings({"gear": 24, "bolt": 24}, "seed=7"),
    "more steps": settings({"gear": 24, "bolt": 16}, "engine.steps=12"),
}


def measure() -> list[dict[str, Any]]:
    """Rows of every figure: the median of the changes, with their range, and how often the interval held the truth."""
    with tempfile.TemporaryDirectory() as folder:
        errors, held = measure_changes(Path(folder))
    rows = []
    for figure in FIGURES:
        found = [errors[change][figure] for change in CHANGES]
        name = "plan_error" if figure == "compute" else f"plan_error_{figure}"
        rows.append(row("tailforge", name, median(found), "of the truth", min(found), max(found)))
    for change in CHANGES:
        name = f"plan_error: {change}"
        rows.append(row("tailforge", name, errors[change]["compute"], "of the truth"))
    rows.append(row("tailforge", "plan_coverage", sum(held) / len(held), "of the intervals"))
    return rows


def measure_changes(folder: Path) -> tuple[dict[str, dict[str, float]], list[bool]]:
    """Relative errors of every change and figure, and whether each interval held the truth."""
    os.environ |= ENVIRONMENT | {"PREFECT_HOME": str(folder / "prefect")}
    describe_machine.cache_clear()  # it counts threads, of which this process had another number before
    store, errors = str(folder / "store"), dict[str, dict[str, float]]()
    held: list[bool] = []
    build(store, BEFORE)
    for change, overrides in CHANGES.items():
        _, estimate = plan_cost(RECIPE, store, overrides, 1, Prices())
        before = read_receipts(store)
        told = build(store, overrides)
        new = [receipt for uri, receipt in read_receipts(store).items() if uri not in before]
        truth = {
            "compute": float(told["compute_seconds"]),
            "wall": float(told["wall_seconds"]),
            "bytes": float(sum(map(count_bytes, new)) + count_version(store, told)),
            "images": float(sum(receipt.rows for receipt in new if receipt.stage == "samples")),
        }
        errors[change] = compare(estimate, truth, held)
    return errors, held


def compare(estimate: Estimate, truth: Mapping[str, float], held: list[bool]) -> dict[str, float]:
    """|predicted - true| / true of every figure; `held` gains whether the interval held it."""
    errors = {}
    for figure, actual in truth.items():
        predicted = getattr(estimate, figure)
        errors[figure] = abs(predicted.value - actual) / actual
        held.append(predicted.low <= actual <= predicted.high)
        sys.stderr.write(f"{figure}: {predicted} against {actual:.6g}\n")
    return errors


def build(store: str, overrides: list[str]) -> dict[str, Any]:
    """Build as a person does, in a process of its own with one worker. Errors: CalledProcessError."""
    words = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "tailforge", "build", RECIPE, "--store", store, "--workers", "1", "--json", *words]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def count_version(uri: str, told: Mapping[str, Any]) -> int:
    """Bytes of a new version's own files, its shards apart, which are links."""
    files = load_dataset(Store.open(uri), told["name"], told["version"]).files
    return sum(file.bytes for path, file in files.items() if not path.startswith("shards/"))


def read_receipts(uri: str) -> dict[str, Receipt]:
    """All receipts of a store, by the artifact's uri."""
    root = Path(Store.open(uri).path("artifacts"))
    receipts = [Receipt.model_validate_json(path.read_bytes()) for path in root.glob("*/*/part-*.json")]
    return {receipt.uri: receipt for receipt in receipts}


def judge(rows: list[dict[str, Any]]) -> list[str]:
    """The goal with its figure."""
    own = {row["metric"]: row["value"] for row in rows}
    error, coverage = own["plan_error"], own["plan_coverage"]
    return [
        f"- predicted compute seconds within 25 % (median of the changes): {100 * error:.0f} %, "
        f"{'met' if error <= GOAL else '**missed**'}",
        f"- no goal: wall {100 * own['plan_error_wall']:.0f} %, bytes {100 * own['plan_error_bytes']:.0f} %, images "
        f"{100 * own['plan_error_images']:.0f} %; {100 * coverage:.0f} % of the intervals, which say about 90 %, held",
    ]


SECTION = f"""
## Plan

Whether `tailforge plan` says beforehand what a build comes to. The embedded generator, {SMALL[1].split("=")[1]} steps,
partitions of 8, one worker, one torch thread. One build (gear and bolt, 24 each) fills an empty store; then each of
{len(CHANGES)} changed builds is planned and made in a process of its own, one after the other in the same store:
{"; ".join(CHANGES)}. Errors are those of the plan's value against what the build reports (compute and wall
seconds) and leaves (images, and bytes of artifacts and of the version's own files). Intervals are the range of the
changes; the coverage is over all four figures of all changes. All builds run within minutes, which flatters the plan:
between days, or where the machine has other work, errors are larger.
"""
