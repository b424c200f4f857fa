"""Reading, as the page of operations shows it: the part of tests/benchmarks/reading.py that the goals are about."""

import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks import reading

METRICS = ("read_samples_per_second", "read_ratio", "subset_bytes_share", "subset_samples_share")


def measure() -> list[dict[str, Any]]:
    """Rows of decoded samples of about 100 kB; both arms in one run."""
    pixels, count = reading.SIZES[""]
    with tempfile.TemporaryDirectory() as folder:
        address = reading.make_version(pixels, count, Path(folder))
        rows = reading.compare_readers(address, "") + reading.measure_subset(address, "")
    return [row for row in rows if row["metric"] in METRICS]


def judge(rows: list[dict[str, Any]]) -> list[str]:
    """Each goal with its figure."""
    own = {row["metric"]: row["value"] for row in rows if row["arm"] == "tailforge"}
    ratio, share = own["read_ratio"], own["subset_bytes_share"]
    return [
        f"- at least as fast as webdataset: {ratio:.3g} times, {'met' if ratio >= 1 else '**missed**'}",
        f"- a 5 % filter reads at most 10 % of the bytes: {share:.3g}, {'met' if share <= 0.1 else '**missed**'}",
    ]


SECTION = f"""
## Reading

Whether a training job reads a version at least as fast as plain `webdataset` reads its tars, and how many bytes a
filter over the manifest reads. Versions of noise images of about 100 kB, on the local disk, in the page cache; one
process, one thread; both arms decode and take turns, {reading.ROUNDS} each; intervals are the range of the turns. More
sizes and ways of reading: [reading.md](reading.md).
"""
