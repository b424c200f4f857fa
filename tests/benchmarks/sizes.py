"""Benchmark of sizes: what commands need before they answer. `make bench-sizes`.

`python -m tests.benchmarks.sizes --before REVISION` measures the commands of that revision turn about with those of
this one, and writes docs/benchmarks/sizes.json and sizes.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
from compileall import compile_dir
from io import BytesIO
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.pages import DOCS, ROOT, markdown_table, row, write_json

ROOMS = ("schemas", "catalog", "tasks", "flows")  # to which the package below src links
REPEATS = 2
# Command line, expected exit code, and most processor seconds, by metric.
COMMANDS: dict[str, tuple[list[str], int, float]] = {
    "plan_cpu_seconds": (["plan", "workshop"], 0, 2.0),
    "status_cpu_seconds": (["status", "workshop"], 0, 2.0),
    "rerun_cpu_seconds": (["rerun", "workshop", "--failed-samples", "--dry-run"], 0, 2.0),
    "refusal_cpu_seconds": (["plan", "workshpo"], 2, 1.0),
    "help_cpu_seconds": (["--help"], 0, 0.3),
}
NEW = {"rerun_cpu_seconds"}  # of commands that an older revision may lack
AFTER, BEFORE = "embedded", "embedded, before"


def measure_command(source: Path, words: list[str], code: int) -> float:
    """Return the processor seconds of a command of the package below `source`, its child processes included."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    with tempfile.TemporaryDirectory() as folder:
        store = [] if words == ["--help"] else ["--store", f"{folder}/store"]
        command = [sys.executable, "-m", "tailforge", *words, *store]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode != code:
        raise SystemExit(f"{' '.join(words)} ended with {ended.returncode}, expected {code}: {ended.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(revision: str) -> list[dict[str, Any]]:
    """Return the rows of both revisions: median, lowest and highest of REPEATS runs of each command, turn about."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        sources = {BEFORE: Path(folder) / "src", AFTER: ROOT / "src"}
        found: dict[tuple[str, str], list[float]] = {}
        for source, room in product(sources.values(), ROOMS):
            compile_dir(source.parent / room, quiet=2)
        for _ in range(REPEATS):
            for metric, (words, code, _limit) in COMMANDS.items():
                for arm, source in sources.items():
                    if arm == AFTER or metric not in NEW:
                        found.setdefault((arm, metric), []).append(measure_command(source, words, code))
    return [row(arm, metric, median(own), "s", min(own), max(own)) for (arm, metric), own in found.items()]


def judge(rows: list[dict[str, Any]]) -> list[str]:
    """Return one line for each goal, with its figure."""
    lines = []
    for metric, (words, _, limit) in COMMANDS.items():
        value = next(each["value"] for each in rows if (each["arm"], each["metric"]) == (AFTER, metric))
        lines.append(
            f"- `{' '.join(words)}`: {value:.2f} s of processor time, at most {limit:g} s: "
            f"{'met' if value <= limit else 'missed'}."
        )
    return lines


PAGE = """
# Sizes

What commands need before they answer. `make bench-sizes`, on the machine named in sizes.json.

## Start-up

The processor seconds, user and system, of a whole command in a new process, with a new store and one thread. The recipe
is the embedded one, and all modules are compiled before. Each row is the median of {repeats} runs, with the lowest and
the highest. The arm `{before}` is revision {revision}, run turn about with this one. There, locating a stage
imported torch, diffusers and transformers. It has no `rerun --dry-run`.

{table}

{goals}
"""


def write_page(revision: str) -> None:
    """Write the page from the rows that are there. `revision`: of the arm before."""
    rows = json.loads((DOCS / "sizes.json").read_text())["rows"]
    page = {"repeats": REPEATS, "before": BEFORE, "revision": revision}
    text = PAGE.format(**page, table=markdown_table(rows), goals="\n".join(judge(rows)))
    (DOCS / "sizes.md").write_text(text.lstrip())


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default="3ab6c7c", metavar="REVISION", help="revision to compare with")
    revision = parser.parse_args().before
    write_json("sizes", [], measure(revision))
    write_page(revision)


if __name__ == "__main__":
    main()
