"""Benchmark of the chain: orchestration overhead, memory, sharding speed, killed builds. `make bench-chain`.

`python -m tests.benchmarks.chain [overhead] [memory] [sharding] [kills]` measures all or those named, keeps the other
rows, and writes docs/benchmarks/chain.json and chain.md; `page` measures nothing. Each build runs in a process of its
own against one Prefect server.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from tests.benchmarks.pages import DOCS, ROOT, markdown_table, row, write_json
from tests.benchmarks.sharding import ROUNDS, measure_sharding
from tests.support.tiny_recipes import write_recipe

OVERHEAD_IMAGES = 2000
SMALL, LARGE = 1000, 5000
PARTS = ["overhead", "memory", "sharding", "kills"]


def build(recipe: str, store: Path, *words: str, server: str) -> tuple[dict[str, Any], float]:
    """Run one build in its own process; returns what it printed and its peak memory in MiB."""
    program = (
        "import resource, sys; from tailforge.flows.cli.commands import main\n"
        "try: main()\n"
        "finally: print('peak_kib', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "build", recipe, "--store", str(store), "--json", *words]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PREFECT_API_URL": server}, capture_output=True, text=True, check=True
    )
    peak = re.search(r"peak_kib (\d+)", ended.stderr)
    assert peak
    return json.loads(ended.stdout), int(peak[1]) / 1024


def measure_overhead(folder: Path, server: str) -> list[dict[str, Any]]:
    """Wall time over the stages' own compute at one worker, embedded generator, about 2,000 images.

    Four denoising steps and not sixteen: the less an image costs, the more the orchestration shows.
    """
    each = OVERHEAD_IMAGES // 8
    wanted = [f"--set=concepts.{i}.requested={each}" for i in range(8)]
    rest = [
        "--set=engine.steps=4",
        "--set=quality.max_rounds=1",
        "--set=quality.oversample=1",
        "--set=prompts.per_concept=120",
    ]
    made, _ = build("workshop", folder / "overhead", "--workers", "1", *wanted, *rest, server=server)
    ratio = made["wall_seconds"] / made["compute_seconds"]
    return [row("tailforge", "orchestration_overhead", round(ratio, 4), "wall over compute")]


def measure_memory(folder: Path, server: str) -> list[dict[str, Any]]:
    """Peak resident memory of a build of 1,000 and of 5,000 images of the tiny generator."""
    from tests.support.tiny_generators import save_sd

    save_sd(folder / "generator")
    rows = []
    for images in (SMALL, LARGE):
        recipe = write_recipe(
            folder,
            concepts=[{"name": "gear", "requested": images // 2}, {"name": "bench", "requested": images // 2}],
            engine={"kind": "plain", "steps": 1, "guidance": 1.0, "batch_size": 16},
            quality={"oversample": 1.0, "max_rounds": 1, "near_duplicates": None},
            sharding={"max_samples": 250},
            partition_size=64,
        )
        _, peak = build(str(recipe), folder / f"memory-{images}", server=server)
        rows.append(row("tailforge", f"peak_mb_{images}", round(peak, 1), "MiB"))
    return rows


def measure_kills() -> list[dict[str, Any]]:
    """The kill test of the suite, whose figures pytest writes as properties of the test."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        tests = ["tests/flows/build/test_killed_builds.py", "-k", "plain", "-m", "slow", f"--junitxml={report}", "-q"]
        subprocess.run([sys.executable, "-m", "pytest", *tests], cwd=ROOT, check=True)
        properties = {p.get("name"): p.get("value") for p in ET.parse(report).iter("property")}
    return [row("tailforge", name, int(properties[name] or 0), "builds") for name in ("kill_runs", "kill_mismatches")]


def judge(rows: list[dict[str, Any]]) -> list[str]:
    """Each goal with its figure, and whether it is met."""
    own = [entry for entry in rows if entry["arm"] == "tailforge"]
    ours = {entry["metric"]: entry["value"] for entry in own}
    slowest = {entry["metric"]: entry["low"] for entry in own}
    goals = [
        ("orchestration overhead at most 1.10", ours["orchestration_overhead"], ours["orchestration_overhead"] <= 1.10),
        ("peak at 5,000 images over peak at 1,000 at most 1.10", ours["peak_mb_5000"] / ours["peak_mb_1000"],
         ours["peak_mb_5000"] <= 1.10 * ours["peak_mb_1000"]),
        ("shards at 300 MB/s or more", ours["shard_mb_per_second"], ours["shard_mb_per_second"] >= 300),
        (f"never slower than ShardWriter, 100 kB samples, slowest of {ROUNDS} turns", slowest["shard_ratio"],
         slowest["shard_ratio"] >= 1),
        (f"never slower than ShardWriter, 8 kB samples, slowest of {ROUNDS} turns", slowest["shard_ratio_small"],
         slowest["shard_ratio_small"] >= 1),
        ("no file differs after kills", ours["kill_mismatches"], ours["kill_mismatches"] == 0),
    ]  # fmt: skip
    return [f"- {goal}: {value:.3g}, {'met' if met else '**missed**'}" for goal, value, met in goals]


def measure(parts: list[str]) -> list[dict[str, Any]]:
    """Rows of the named parts."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    rows: list[dict[str, Any]] = []
    builds = [part for part in (measure_overhead, measure_memory) if part.__name__.removeprefix("measure_") in parts]
    if builds:
        os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"  # its writes lock the server's SQLite file
        with tempfile.TemporaryDirectory() as name, prefect_test_harness(server_startup_timeout=180):
            server = PREFECT_API_URL.value()
            assert server
            for part in builds:
                rows += part(Path(name), server)
    if "sharding" in parts:
        rows += measure_sharding()
    if "kills" in parts:
        rows += measure_kills()
    return rows


def main() -> None:
    """Measure what is named and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "page"], default=PARTS)
    measured = measure(parser.parse_args().parts)
    if measured:
        write_json("chain", [20261122], measured)
    rows = json.loads((DOCS / "chain.json").read_text())["rows"]
    (DOCS / "chain.md").write_text(PAGE.format(table=markdown_table(rows), goals="\n".join(judge(rows))))


PAGE = """# The chain

## Asked

What the orchestration costs beside the work, whether memory grows with the dataset, how fast shards are written, and
whether a killed build ends as an undisturbed one.

## Measured

`make bench-chain` on the machine named in chain.json. Builds run in processes of their own against one local Prefect
server whose start is not counted.

- `orchestration_overhead`: wall time of the flow over the sum of its stages' own compute (receipts), one worker,
  embedded generator at four denoising steps (a quarter of the demo's, so that overhead shows more), 2,000 images,
  publication and report included in the wall time.
- `peak_mb_*`: peak resident memory of the build process, tiny random generator, one round, no gates.
- `shard_mb_per_second`: tar with per-member and whole-file sha256 and manifest rows, samples of about 100 kB
  (`_small`: about 8 kB), against webdataset's ShardWriter, which computes no digests, turn about in one process, both
  synced to the disk. `shard_ratio`: median of the turns' ratios, its interval their range; "never slower" is judged by
  the slowest turn. `shard_task_*`: the whole task, tables read included.
- `kill_*`: builds ended by SIGKILL at random moments and started again; mismatches are files of the published version
  that differ from an undisturbed build's, and finished partitions that were done again.

{table}

## Goals

{goals}
"""

if __name__ == "__main__":
    main()
