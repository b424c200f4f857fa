"""How fast shards are written, against ShardWriter of webdataset. `python -m tests.benchmarks.sharding` prints it.

Two sizes of sample: about 8 kB (64x64 PNG) and about 100 kB; each with mask, annotation, caption and class. Both
writers get the same bytes from memory, turn about in one process, and write to a local disk; both tars are synced to
it. Ours computes the sha256 of every member and of the tar and writes the manifest rows as Parquet; ShardWriter does
neither (it gets a whole-number mtime, without which its tars grow by a third). A third row times the whole task, which
also reads the partitions' tables.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds

from tailforge.catalog.store import Store
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.methods.packing.members import mark_png
from tailforge.tasks.methods.packing.shards import TarPacker
from tailforge.tasks.stages.shards import STAGE, list_shard_jobs
from tests.benchmarks.pages import row
from tests.support.fabricate import Build, encode_png, make_build, make_recipe, plan_build
from tests.support.stages import run

FIELDS = ("cls", "json", "png", "seg.png", "txt")
SIZES = {"": (183, 2_000), "_small": (52, 16_000)}  # metric suffix: side of the noise image in pixels, samples
ROUNDS = 5
Samples = Sequence[tuple[str, tuple[bytes, ...]]]


def make_samples(pixels: int, count: int) -> Samples:
    """Samples with one distinct image in sixteen; neither writer looks at what it has written before."""
    rng = np.random.default_rng(3)
    images = [encode_png(rng.integers(0, 256, (pixels, pixels, 3), np.uint8)) for _ in range(16)]
    indexed = encode_png(
        np.kron(np.eye(4, dtype=np.uint8), np.ones((pixels // 4, pixels // 4), np.uint8)), palette=True
    )
    annotation = b'{"caption":"a photo of a gear","instances":[' + b"1," * 250 + b"1]}"
    return [
        (f"{i:016x}", (b"3", annotation, images[i % 16], indexed, b"a photo of a gear on a bench"))
        for i in range(count)
    ]


def pack_ours(samples: Samples, folder: Path) -> int:
    """Write tar and member rows; returns the tar's bytes."""
    with open(folder / "ours.tar", "wb") as out:
        with TarPacker(out, FIELDS) as packer:
            for key, (cls, annotation, png, mask, text) in samples:
                packer.add(key, (cls, annotation, mark_png(png), mask, text))
        sync(out)
    rows = pa.table({"sample_id": [key for key, _ in samples], "members": packer.members()})
    pq.write_table(rows, folder / "ours.parquet", compression="zstd", compression_level=3)
    return packer.size


def pack_webdataset(samples: Samples, folder: Path) -> int:
    """Write the same members; returns the tar's bytes."""
    pattern = str(folder / "theirs-%06d.tar")
    with wds.ShardWriter(pattern, maxcount=10**9, maxsize=1e15, verbose=0, mtime=0) as writer:
        for key, payloads in samples:
            writer.write({"__key__": key, **dict(zip(FIELDS, payloads, strict=True))})
    with open(folder / "theirs-000000.tar", "rb+") as out:
        sync(out)
        return os.fstat(out.fileno()).st_size


def sync(file: IO[bytes]) -> None:
    """Until the bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())


def time_speed(work: Callable[[], int]) -> float:
    """Megabytes of tar a second."""
    started = time.perf_counter()
    written = work()
    return written / (time.perf_counter() - started) / 1e6


def compare_writers(pixels: int, count: int, folder: Path) -> tuple[list[float], list[float]]:
    """Speeds of (ours, ShardWriter) in `ROUNDS` turns; who begins changes from turn to turn."""
    samples = make_samples(pixels, count)
    speeds: dict[Callable[[Samples, Path], int], list[float]] = {pack_ours: [], pack_webdataset: []}
    for turn in range(ROUNDS):
        for writer in sorted(speeds, key=lambda writer: (writer is pack_ours) == bool(turn % 2)):
            speeds[writer].append(time_speed(lambda writer=writer: writer(samples, folder)))  # type: ignore[misc]
    return speeds[pack_ours], speeds[pack_webdataset]


def make_partitions(pixels: int, count: int, folder: Path) -> tuple[Build, Receipt]:
    """A build of twelve concepts in partitions of 256, planned."""
    concepts = [f"part {i}" for i in range(12)]
    store = Store.open(str(folder / "store"), create=True)
    recipe = make_recipe(concepts=concepts, splits={"train": 1.0})
    build = make_build(store, recipe, dict.fromkeys(concepts, count // 12), rows=256, pixels=pixels)
    return build, plan_build(build)


def time_task(pixels: int, count: int, folder: Path) -> list[float]:
    """Speeds of the whole task, from the partitions' tables to the committed tar and manifest."""
    build, plan = make_partitions(pixels, count, folder)
    jobs = list_shard_jobs(plan, build.partitions)

    def work() -> int:
        build.store.remove("artifacts/shards")
        receipts = [run(STAGE, build.store.uri, build.context, job) for job in jobs]
        return sum(receipt.details["files"]["tar"]["bytes"] for receipt in receipts)

    return [time_speed(work) for _ in range(ROUNDS)]


def measure_sharding() -> list[dict[str, Any]]:
    """Rows of the benchmark: medians with their range; `shard_ratio` is the median of the turns' ratios."""
    rows = []
    for suffix, (pixels, count) in SIZES.items():
        with tempfile.TemporaryDirectory() as name:
            ours, theirs = compare_writers(pixels, count, Path(name))
            whole = time_task(pixels, count // 2, Path(name))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        for arm, metric, values, unit in (
            ("tailforge", "shard_mb_per_second", ours, "MB/s"),
            ("webdataset", "shard_mb_per_second", theirs, "MB/s"),
            ("tailforge", "shard_ratio", ratios, "times ShardWriter"),
            ("tailforge", "shard_task_mb_per_second", whole, "MB/s"),
        ):
            middle = round(statistics.median(values), 2)
            rows.append(row(arm, metric + suffix, middle, unit, round(min(values), 2), round(max(values), 2)))
    return rows


if __name__ == "__main__":
    for entry in measure_sharding():
        print(entry)
