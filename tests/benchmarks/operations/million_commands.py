"""One command over a store of very many samples, in a process of its own: seconds, peak memory, what it counted.

`python -m tests.benchmarks.operations.million_commands COMMAND FOLDER` prints them as JSON.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from tailforge.catalog.diff import compare_versions
from tailforge.catalog.store import Store
from tailforge.flows.build.drive import Drive
from tailforge.flows.build.order import write_all
from tailforge.flows.build.rounds import run_rounds
from tailforge.flows.build.status import build_status
from tailforge.flows.build.walk import plan_build
from tailforge.schemas.jobs import BuildContext
from tailforge.tasks.publish.assemble import assemble
from tailforge.tasks.stages.selection import JudgedPartition, select_rows
from tests.benchmarks.operations.million_store import NEW, OLD, load_context, write_changed_version
from tests.benchmarks.pages import ROOT

Counts = dict[str, Any]


def plan(context: BuildContext) -> Counts:
    """The dry run that `tailforge plan` prints."""
    found = plan_build(context)
    return {"complete": found.complete, "steps": sum(stage.finished for stage in found.stages)}


def status(context: BuildContext) -> Counts:
    """What `tailforge status` prints."""
    found = build_status(context)
    return {"complete": found["complete"], "samples": found["outcomes"]["samples status:ok"]}


def quota(context: BuildContext) -> Counts:
    """The selection computed again: quantile gates, near duplicates, quotas and splits of all samples."""
    store = Store.open(context.store)
    selected = run_rounds(Drive(store, submit=None), context)
    assert selected is not None
    started = time.perf_counter()
    judged = [JudgedPartition.model_validate(partition.model_dump(mode="json")) for partition in selected.partitions]
    rows = select_rows(store, context, judged).table
    return {
        "seconds": time.perf_counter() - started,
        "accepted": pc.sum(rows["accepted"]).as_py(),
        "reasons": {str(e["values"]): e["counts"] for e in rows["reason"].value_counts().to_pylist()},
    }


def manifest(context: BuildContext) -> Counts:
    """manifest.parquet and rejects.parquet of the version, and links to its (empty) tars."""
    drive = Drive(Store.open(context.store), submit=None)
    selected = run_rounds(drive, context)
    assert selected is not None
    shards = write_all(drive, context, selected.partitions, selected.selection)
    assert shards is not None
    drive.store.remove(OLD)
    started = time.perf_counter()
    counts = assemble(drive.store, OLD, context, selected.selection, selected.partitions, shards)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, **counts.model_dump(include={"samples", "rejected", "surplus"})}


def change(context: BuildContext) -> Counts:
    """Not measured: the version that `diff` compares with."""
    return write_changed_version(Store.open(context.store))


def diff(context: BuildContext) -> Counts:
    """Two versions compared row by row."""
    found = compare_versions(Store.open(context.store), OLD, NEW)
    return {"added": len(found.added), "removed": len(found.removed), "changed": len(found.changed)}


COMMANDS: dict[str, Callable[[BuildContext], Counts]] = {
    c.__name__: c for c in (plan, status, quota, manifest, change, diff)
}


def run_command(name: str, folder: Path) -> Counts:
    """What a command says, run in a new process."""
    found: Counts = json.loads(run_module("tests.benchmarks.operations.million_commands", name, str(folder)))
    return found


def run_module(name: str, *words: str) -> str:
    """What a module prints, run in a new process on two threads."""
    command = [sys.executable, "-m", name, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def read_peak_mb() -> float:
    """Peak resident memory of this program. Not getrusage: what that tells includes the process that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def main() -> None:
    """`seconds` leaves out imports, and of quota and manifest the dry run that finds what they read."""
    name, folder = sys.argv[1:]
    context, imports = load_context(Path(folder)), read_peak_mb()
    started, busy = time.perf_counter(), time.process_time()
    counts = COMMANDS[name](context)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    measured = {"seconds": seconds, "processor_seconds": busy, "peak_mb": read_peak_mb(), "imports_mb": imports}
    print(json.dumps(measured | counts))


if __name__ == "__main__":
    main()
