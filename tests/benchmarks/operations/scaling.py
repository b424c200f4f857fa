"""Scaling: what a second worker process adds to the speed of synthesis on one machine."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tailforge.flows.server.local_prefect import configure_prefect
from tailforge.flows.server.temporary import open_server
from tests.benchmarks.pages import ROOT, row

STEPS, BATCH, PER_PARTITION, PARTITIONS = 8, 8, 16, 20  # of 16 denoising steps, so that it ends in minutes
CONCEPTS = ("gear", "bolt", "washer", "hex nut")
TURNS = 3
ENDS_S = 300.0
GOAL = 1.8


def measure() -> list[dict[str, Any]]:
    """Images a second with one and with two workers, turn about, and the ratio of each turn."""
    speeds: dict[int, list[float]] = {1: [], 2: []}
    configure_prefect()
    with open_server(), tempfile.TemporaryDirectory() as folder:
        for turn in range(TURNS):
            for workers in speeds:
                speeds[workers].append(time_synthesis(workers, Path(folder) / f"{turn}-{workers}"))
    ratios = [two / one for one, two in zip(speeds[1], speeds[2], strict=True)]
    rows = [("scaling_2_workers", ratios, "times one worker")]
    rows += [(f"synthesis_{workers}_workers", found, "images/s") for workers, found in speeds.items()]
    return [row("tailforge", name, median(found), unit, min(found), max(found)) for name, found, unit in rows]


def time_synthesis(workers: int, store: Path) -> float:
    """Images a second from the moment that every worker has finished a partition until all are drawn.

    The build is then killed: what follows is not synthesis.
    """
    devices = ",".join(f"cpu:{number}" for number in range(workers))
    wanted = PARTITIONS * PER_PARTITION // len(CONCEPTS)
    concepts = ", ".join(f"{{name: {name}, wanted: {wanted}}}" for name in CONCEPTS)
    settings = {
        "concepts": f"[{concepts}]",
        "partition_size": PER_PARTITION,
        "engine.steps": STEPS,
        "engine.batch_size": BATCH,
        "quality.oversample": 1.0,
        "quality.max_rounds": 1,
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "tailforge", "build", "workshop", "--store", str(store), *words]
    with tempfile.TemporaryFile() as told:
        build = subprocess.Popen(
            [*command, "--runner", "processes", "--devices", devices],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TAILFORGE_LEASES": str(store / "leases")},
            stderr=told,
        )
        try:
            return watch_receipts(build, store, workers)
        except RuntimeError as error:
            told.seek(0)
            raise RuntimeError(f"{error}: {told.read()[-2000:].decode()}") from error
        finally:
            build.kill()
            build.wait()


def watch_receipts(build: "subprocess.Popen[bytes]", store: Path, workers: int) -> float:
    """Images a second between the first receipt of the slowest worker to start and the last receipt."""
    until = time.monotonic() + ENDS_S
    while len(found := list(store.glob("artifacts/samples/*/part-*.json"))) < PARTITIONS:
        if build.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{len(found)} of {PARTITIONS} partitions were drawn, then the build ended")
        time.sleep(0.2)
    written = sorted((path.stat().st_mtime, read_worker(path)) for path in found)
    firsts = {worker: moment for moment, worker in reversed(written)}
    if len(firsts) != workers:
        raise RuntimeError(f"{len(firsts)} worker processes drew, not {workers}")
    began = max(firsts.values())
    drawn = sum(moment > began for moment, _ in written) * PER_PARTITION
    return drawn / (written[-1][0] - began)


def read_worker(receipt: Path) -> int:
    """The process that drew a partition."""
    process: int = json.loads(receipt.read_text())["details"]["worker"]["process"]
    return process


def judge(rows: list[dict[str, Any]]) -> list[str]:
    """The goal with its figure."""
    ratio = next(row["value"] for row in rows if row["metric"] == "scaling_2_workers")
    met = "met" if ratio >= GOAL else "**missed**"
    return [f"- two workers at least {GOAL} times as fast as one (our own goal): {ratio:.3g}, {met}"]


SECTION = f"""
## Workers

Whether a second worker process doubles the speed of synthesis. `tailforge build workshop --runner processes` with one
and with two devices of the processor, one torch thread a worker, turn about, {TURNS} turns each: {PARTITIONS}
partitions of {PER_PARTITION} images, batches of {BATCH}, {STEPS} steps. Counted from the moment that every worker has
finished a partition, so that models are loaded, to the last partition drawn; masks and verdicts run there as well.
The interval is the range of the turns. The build's own process and the Prefect server share the two cores with the
workers, which they would not on a machine with more cores or with accelerators.
"""
