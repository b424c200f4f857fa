"""A million samples, as the page of operations shows them: what the commands over them take in time and memory."""

import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.operations.million_commands import COMMANDS, Counts, run_command, run_module
from tests.benchmarks.pages import row

CONCEPTS, WANTED, PARTITION_SIZE = 100, 10_000, 256
MEASURED = ("plan", "status", "quota", "manifest", "diff")
SECONDS, MEGABYTES = 60, 2000


def run_all(folder: Path, concepts: int, wanted: int) -> dict[str, Counts]:
    """Fabricate a store of `wanted` samples of every concept and run each command over it, in processes of their own.

    Errors: AssertionError where a command's counts are not those of the store.
    """
    run_module(
        "tests.benchmarks.operations.million_store", str(folder), str(concepts), str(wanted), str(PARTITION_SIZE)
    )
    found = {name: run_command(name, folder) for name in COMMANDS}
    made, accepted = found["status"]["samples"], concepts * wanted
    assert found["plan"]["complete"]
    assert found["status"]["complete"]
    assert made >= 1.1 * accepted
    assert found["quota"]["accepted"] == found["manifest"]["samples"] == accepted
    assert made == sum(found["quota"]["reasons"].values())
    assert made == sum(found["manifest"][name] for name in ("samples", "rejected", "surplus"))
    assert all(found["diff"][name] == found["change"][name] for name in ("added", "removed", "changed"))
    return found


def measure() -> list[dict[str, Any]]:
    """Seconds and peak memory of each command, in about eight minutes, most of which make the store."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        found = run_all(Path(folder), CONCEPTS, WANTED)
        total = time.perf_counter() - started
    rows = [row("tailforge", f"million_{name}_seconds", round(found[name]["seconds"], 1), "s") for name in MEASURED]
    peaks = [row("tailforge", f"million_{name}_peak_mb", round(found[name]["peak_mb"]), "MiB") for name in MEASURED]
    return [
        *rows,
        *peaks,
        row("tailforge", "million_peak_mb", max(entry["value"] for entry in peaks), "MiB"),
        row("tailforge", "million_imports_mb", round(found["plan"]["imports_mb"]), "MiB"),
        row("tailforge", "million_samples_made", found["status"]["samples"], "samples"),
        row("tailforge", "million_total_seconds", round(total), "s"),
    ]


def judge(rows: list[dict[str, Any]]) -> list[str]:
    """Each goal with its figure."""
    ours = {entry["metric"]: entry["value"] for entry in rows}
    slowest = max(MEASURED, key=lambda name: ours[f"million_{name}_seconds"])
    seconds, peak = ours[f"million_{slowest}_seconds"], ours["million_peak_mb"]
    return [
        f"- plan, status, quota, manifest and diff of a million samples, {SECONDS} s each at most: slowest is "
        f"{slowest}, {seconds:.3g} s, {'met' if seconds <= SECONDS else '**missed**'}",
        f"- in {MEGABYTES} MB each at most: {peak:.4g} MiB, {'met' if peak * 1.048576 <= MEGABYTES else '**missed**'}",
    ]


SECTION = f"""
## A million samples

What the commands that look at a whole build take when it holds a million samples. The store is made without pixels:
prompts, identities, selection and the order in shards come from the project's own stages, every image is one tiny PNG,
masks and scores are made up (hashes of a concept are alike, one sample in a hundred is a near duplicate), and tars are
empty. {CONCEPTS} concepts of {WANTED:,} accepted samples each, a tenth more made in one round, partitions of
{PARTITION_SIZE}. Each command runs in a process of its own on two cores, files in the page cache; the peak is its
resident memory with that of the imports (`million_imports_mb`).

- `plan`: the dry run behind `tailforge plan`; `status`: all that `tailforge status` prints.
- `quota`: the selection computed again (quantile gates, near duplicates at the default distance, quotas, splits).
- `manifest`: manifest.parquet and rejects.parquet assembled from the shards' and partitions' tables.
- `diff`: that manifest against one of which every hundredth row came, went or changed.

Not in these figures: reading the recipe and its models (the commands do that before), hashing tars, which takes as long
as the disk reads them, the report, and object stores. Near duplicates are found exactly, in time that depends on the
hashes: a larger `max_distance` (8 instead of 3) took half a minute more here, and many images with almost one hash can
take as long as comparing every pair.
"""
