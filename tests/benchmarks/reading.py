"""Benchmark of reading: samples a second beside plain webdataset, and bytes that a filter reads. `make bench-reading`.

`python -m tests.benchmarks.reading` measures and writes docs/benchmarks/reading.json and reading.md; `page` measures
nothing. Both arms read the same shards from a warm page cache in one process with one thread, turn about, and give out
the same: `raw` the bytes of every member, `decoded` the samples of `decode_sample`.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import webdataset as wds

from tailforge.catalog.reading.decoding import decode_sample
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.reading.order import draw_shards
from tailforge.catalog.reading.samples import read_samples
from tailforge.catalog.registry import DATASETS
from tailforge.catalog.store import Store
from tests.benchmarks.pages import DOCS, ROOT, markdown_table, row, write_json
from tests.support.fabricate import make_build, make_recipe, publish_build

SEED = 20261128
NAME = "parts"
SIZES = {"": (183, 1_500), "_small": (52, 6_000)}  # metric suffix: side of the noise image in pixels, samples
ROUNDS = 7
SUBSET = 0.05


def make_version(pixels: int, count: int, folder: Path) -> str:
    """Address of a version of noise images; a fifth of `count` is rejected."""
    store = Store.open(str(folder / "store"), create=True)
    concepts = [f"part {number}" for number in range(12)]
    recipe = make_recipe(concepts=concepts, splits={"train": 1.0}, sharding={"max_samples": count // 8})
    counts = dict.fromkeys(concepts, count // 12)
    publish_build(make_build(store, recipe, counts, rows=256, pixels=pixels), {"report/index.html": b"<html>"})
    return f"{store.uri}/{DATASETS}/{NAME}"


def read_ours_raw(address: str) -> Iterable[Any]:
    """Bytes by field; the dataset itself always parses what is small (caption, class, annotation)."""
    index = open_dataset(address)._index
    count = int(index.counts.sum())
    return read_samples(index, np.arange(count), np.arange(len(index.shards)))


def read_ours(address: str) -> Iterable[Any]:
    return open_dataset(address)


def read_ours_shuffled(address: str) -> Iterable[Any]:
    return open_dataset(address, shuffle_seed=SEED)


def read_theirs_raw(address: str) -> Any:
    urls = [shard.removeprefix("file://") for shard in open_dataset(address).shards]
    return wds.WebDataset(urls, shardshuffle=False)


def read_theirs(address: str) -> Any:
    return read_theirs_raw(address).map(decode_sample)


def read_theirs_shuffled(address: str) -> Any:
    """Shards in the same order as ours, samples through a buffer as large."""
    shards = open_dataset(address).shards
    urls = [shards[number].removeprefix("file://") for number in draw_shards(len(shards), SEED, 0)]
    return wds.WebDataset(urls, shardshuffle=False).shuffle(1000).map(decode_sample)


ARMS: dict[str, tuple[Callable[[str], Iterable[Any]], Callable[[str], Iterable[Any]]]] = {
    "_raw": (read_ours_raw, read_theirs_raw),
    "": (read_ours, read_theirs),
    "_shuffled": (read_ours_shuffled, read_theirs_shuffled),
}


def time_reading(read: Callable[[str], Iterable[Any]], address: str) -> tuple[float, int]:
    """(samples a second, samples) of one pass, opening included."""
    gc.collect()
    started = time.perf_counter()
    count = sum(1 for _ in read(address))
    return count / (time.perf_counter() - started), count


def compare_readers(address: str, suffix: str) -> list[dict[str, Any]]:
    """Rows of every way of reading: medians with their range; the ratio is the median of the turns' ratios."""
    rows = []
    for way, arms in ARMS.items():
        speeds: dict[Any, list[float]] = {arm: [] for arm in arms}
        counts = {time_reading(arm, address)[1] for arm in arms}  # and warm the page cache
        assert len(counts) == 1, f"the arms read {counts} samples"
        for turn in range(ROUNDS):
            for arm in arms[:: 1 if turn % 2 else -1]:
                speeds[arm].append(time_reading(arm, address)[0])
        ours, theirs = speeds[arms[0]], speeds[arms[1]]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        for arm_name, metric, values, unit in (
            ("tailforge", "read_samples_per_second", ours, "samples/s"),
            ("webdataset", "read_samples_per_second", theirs, "samples/s"),
            ("tailforge", "read_ratio", ratios, "times webdataset"),
        ):
            middle, low, high = statistics.median(values), min(values), max(values)
            rows.append(row(arm_name, metric + way + suffix, round(middle, 3), unit, round(low, 3), round(high, 3)))
    return rows


def count_bytes(program: str) -> int:
    """Bytes that a Python program reads between `begin()` and `end()`, by the kernel's count (Linux)."""
    counted = (
        "def rchar(): return int(open('/proc/self/io').read().split()[1])\n"
        "def begin(): globals().update(started=rchar())\n"
        "def end(): print(rchar() - started)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", counted + program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(ended.stdout)


def measure_subset(address: str, suffix: str) -> list[dict[str, Any]]:
    """Bytes read for a random twentieth of the samples over those of all shards; dataset.json and manifest count."""
    shards = [Path(shard.removeprefix("file://")) for shard in open_dataset(address).shards]
    manifest = shards[0].parents[1] / "manifest.parquet"
    ids = pq.read_table(manifest, columns=["phash"])["phash"].to_numpy()
    limit = int(np.quantile(ids, SUBSET))
    program = (
        "import pyarrow.compute as pc, pyarrow.dataset\nfrom tailforge import open_dataset\n"
        "import PIL.PngImagePlugin\n"  # code that is imported on the way is no data
        f"list(open_dataset({address!r}, where=pc.field('phash') < 0))\n"
        f"begin()\nlist(open_dataset({address!r}, where=pc.field('phash') < {limit}))\nend()\n"
    )
    chosen = len(open_dataset(address, where=pc.field("phash") < limit))
    size = sum(os.path.getsize(shard) for shard in shards)
    shares = (
        ("subset_bytes_share", count_bytes(program) / size, "of the shards' bytes"),
        ("subset_samples_share", chosen / len(ids), "of the samples"),
        ("manifest_bytes_share", manifest.stat().st_size / size, "of the shards' bytes"),
    )
    return [row("tailforge", metric + suffix, round(share, 4), unit) for metric, share, unit in shares]


def measure() -> list[dict[str, Any]]:
    """All rows."""
    warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves tars to the garbage collector
    rows = []
    for suffix, (pixels, count) in SIZES.items():
        with tempfile.TemporaryDirectory() as name:
            address = make_version(pixels, count, Path(name))
            rows += compare_readers(address, suffix)
            rows += measure_subset(address, suffix)
    return rows


def judge(rows: list[dict[str, Any]]) -> list[str]:
    """Each goal with its figure, and whether it is met."""
    own = {entry["metric"]: entry for entry in rows if entry["arm"] == "tailforge"}
    lines = []
    for size, words in (("", "100 kB"), ("_small", "8 kB")):
        for way, kind in (("", "decoded"), ("_raw", "raw"), ("_shuffled", "shuffled and decoded")):
            ratio = own[f"read_ratio{way}{size}"]
            met = "met" if ratio["value"] >= 1 else "**missed**"
            lines.append(
                f"- at least as fast as webdataset, {kind}, samples of {words}: {ratio['value']:.3g} times (slowest of "
                f"{ROUNDS} turns {ratio['low']:.3g}), {met}"
            )
        share = own[f"subset_bytes_share{size}"]["value"]
        met = "met" if share <= 0.1 else "**missed**"
        lines.append(f"- a twentieth of the samples of {words} reads at most a tenth of the bytes: {share:.3g}, {met}")
    return lines


def main() -> None:
    """Measure and write the page."""
    if sys.argv[1:] != ["page"]:
        write_json("reading", [SEED], measure())
    rows = json.loads((DOCS / "reading.json").read_text())["rows"]
    (DOCS / "reading.md").write_text(PAGE.format(table=markdown_table(rows), goals="\n".join(judge(rows))))


PAGE = """# Reading

## Asked

Whether a training job reads a version at least as fast as plain `webdataset` reads its tars, and how much a filter over
the manifest reads of shards that hold mostly other samples.

## Measured

`make bench-reading` on the machine named in reading.json: versions of noise images in several shards, on the
local disk, in the page cache, one process, one thread; ours and webdataset's turn about, opening the dataset included.
Samples of about 100 kB (`_small`: about 8 kB) with image, mask, annotation, caption and class.

- `read_samples_per_second`: both give out decoded samples (`decode_sample`: PIL image and mask, parsed annotation).
  `_raw`: both give out the bytes of every member. `_shuffled`: decoded, shards in the same drawn order, samples through
  1,000. `read_ratio`: median of the turns' ratios, its interval their range.
- `subset_bytes_share`: bytes that the process reads, by the kernel's count, for a random twentieth of the samples
  (`where`), over the bytes of all shards; dataset.json and what is read of the manifest count.
  `manifest_bytes_share`: the whole manifest's.

Nothing here waits for a network. There, requests and not bytes decide: neighbours within 64 KiB come in one request as
long as gaps are at most half of what was asked for.

{table}

## Goals

{goals}
"""

if __name__ == "__main__":
    main()
