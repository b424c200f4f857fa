"""What every benchmark writes: docs/benchmarks/<name>.json in one shape, and a Markdown table of the same rows."""

import datetime
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from tailforge.tasks.artifacts.contract import library_versions

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs" / "benchmarks"


def row(
    arm: str, metric: str, value: float, unit: str, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    """One figure; `low` and `high` bound its interval where it has one."""
    return {"arm": arm, "metric": metric, "value": value, "low": low, "high": high, "unit": unit}


def describe_machine() -> str:
    """Processor and cores, without a host name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {len(models) or '?'} cores"


def write_json(name: str, seeds: list[int], rows: list[dict[str, Any]]) -> None:
    """Write docs/benchmarks/<name>.json; rows of a partial run replace those of the same arm and metric.

    Every row names the `seeds` that it was made with, by default these; those of the page are those of all its rows.
    """
    path = DOCS / f"{name}.json"
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    fresh = {(r["arm"], r["metric"]) for r in rows}
    kept = [r for r in before if (r["arm"], r["metric"]) not in fresh]
    written = [*kept, *({"seeds": seeds, **r} for r in rows)]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    page = {
        "name": name,
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "machine": describe_machine(),
        "versions": library_versions(),
        "seeds": sorted({seed for r in written for seed in r.get("seeds", [])}),
        "rows": written,
    }
    DOCS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(page, indent=1) + "\n")


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    lines = ["| arm | metric | value | interval | unit |", "|---|---|---|---|---|"]
    for r in rows:
        interval = "" if r["low"] is None else f"{r['low']:.4g} to {r['high']:.4g}"
        lines.append(f"| {r['arm']} | {r['metric']} | {r['value']:.4g} | {interval} | {r['unit']} |")
    return "\n".join(lines)
