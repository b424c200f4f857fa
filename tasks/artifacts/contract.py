"""Address, find, commit and read the partitions of stages in the store.

A partition is `artifacts/<stage>/<fingerprint>/part-<nnnnn>.parquet`. Its receipt `part-<nnnnn>.json` is written last
and marks it as finished. The fingerprint hashes everything that decides the content. So equal work has one address: a
rerun continues, two builds share their work, and a changed input has no receipt yet.
"""

import errno
import hashlib
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from tailforge.catalog.store import Store
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.effort import Effort, costing_settings, count_passes, name_engine
from tailforge.schemas.errors import DamagedArtifactError, StoreError
from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.receipts import Footer, Receipt
from tailforge.schemas.under_way import working
from tailforge.tasks.artifacts.accelerators import list_accelerators, torch_is_for_processors

LIBRARIES = ("torch", "diffusers", "transformers", "albumentations", "pyarrow", "pillow", "numpy", "scipy")
SAMPLES = TypeAdapter(tuple[SampleSpec, ...])


def canonical_json(value: Any) -> str:
    """Return the JSON of a value, equal for equal values: sorted keys, no spaces. Errors: ValueError for NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 (hex) of the canonical JSON of a value. Errors: ValueError for NaN."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_samples(samples: Sequence[SampleSpec]) -> str:
    """Return the sha256 (hex) of the samples' JSON. It is much faster than `digest`: a plan hashes all samples."""
    return hashlib.sha256(SAMPLES.dump_json(tuple(samples))).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ArtifactKind:
    """Name, version and schema of a stage's artifacts. A new meaning of the tables needs a new `version`.

    Name and version are part of every fingerprint. `costing` names the settings that decide the cost of a row.
    """

    name: str
    version: str
    schema: pa.Schema
    costing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """The result of a stage: its table, seconds by phase, and details for the receipt.

    Without a `compute` in `timings`, it is the time of the whole work less `load` and `wait`.
    """

    table: pa.Table
    timings: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Address:
    """The place of one result in the store, known before the work begins."""

    stage: ArtifactKind
    part: int
    label: str
    settings: Mapping[str, Any]  # the stage's part of the recipe
    inputs: Mapping[str, str]  # name: digest of the content
    models: Mapping[str, str] = field(default_factory=dict)  # role: digest of the files

    @property
    def fingerprint(self) -> str:
        """Return 32 hex digits of the sha256 of everything that decides the content."""
        return digest(
            {
                "stage": self.stage.name,
                "version": self.stage.version,
                "settings": dict(self.settings),
                "inputs": dict(self.inputs),
                "models": dict(self.models),
            }
        )[:32]

    @property
    def uri(self) -> str:
        """Return the path of the table, relative to the store."""
        return f"artifacts/{self.stage.name}/{self.fingerprint}/part-{self.part:05d}.parquet"

    @property
    def receipt_uri(self) -> str:
        """Return the path of the receipt, relative to the store."""
        return receipt_uri(self.uri)

    def attachment_uri(self, suffix: str) -> str:
        """Return the path of a further file of the result, relative to the store.

        The stage writes it before the table and lists it in `details["files"]`.
        """
        return self.uri.removesuffix(".parquet") + f".{suffix}"


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that can change pixels or bytes, for receipts."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def describe_machine() -> str:
    """Return architecture, processor and cores, on which a stage's speed without an accelerator depends."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} {names[0] if names else platform.processor()}, {_count_cores()} cores".strip()


def count_threads() -> int:
    """Return the number of threads of this process's libraries, which OMP_NUM_THREADS limits."""
    limit, cores = os.environ.get("OMP_NUM_THREADS", ""), _count_cores()
    return min(cores, int(limit)) if limit.isdigit() and int(limit) else cores


def _count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def name_accelerator() -> str:
    """Return the product name of this process's accelerator, or "cpu".

    It does not load torch: without torch the driver names the accelerator that torch would use.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    visible = () if torch_is_for_processors() else list_accelerators()
    return visible[0].name if visible else "cpu"


def describe_effort(address: Address) -> Effort:
    """Return the facts that decide the cost of an address's work here. Models run on the accelerator, if any."""
    stage, passes = address.stage, count_passes(address.settings)
    decides = [stage.name, stage.version, costing_settings(stage.costing, address.settings), dict(address.models)]
    return Effort(
        like=digest(decides)[:12],
        version=stage.version,
        machine=describe_machine(),
        threads=count_threads(),
        device=name_accelerator() if address.models else "cpu",
        passes=passes[0],
        pixels=passes[1],
        engine=name_engine(address.settings),
    )


_warm: set[tuple[str, str]] = set()  # (stage, cost key) of the work that this process has begun


def find_receipt(store: Store, address: Address) -> Receipt | None:
    """Return the receipt of finished work; None if there is none, or if a file is missing or has another size."""
    try:
        receipt = Receipt.model_validate_json(store.read(address.receipt_uri))
        return receipt if all(store.size(uri) == size for uri, size in receipt.files.items()) else None
    except (FileNotFoundError, ValueError):
        return None


def read_table(store: Store, receipt: Receipt, columns: list[str] | None = None) -> pa.Table:
    """Return a partition's table, or some columns of it, after a check of all checksums.

    Errors: DamagedArtifactError if the file is missing or changed; its receipt is removed. StoreError.
    """
    try:
        # pq.read_table on an open file aborted one process in thirty at its exit (pyarrow 26.0.1), ParquetFile none.
        # A partition is small, and many tasks run at once, so further threads only cost time.
        with store.open_read(receipt.uri, size=receipt.bytes) as file:
            parquet = pq.ParquetFile(file, metadata=read_footer(file, receipt), page_checksum_verification=True)
            table = parquet.read(columns=columns, use_threads=False)
        return table.select(columns) if columns else table
    except (FileNotFoundError, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise StoreError(
                f"cannot read {store.uri}/{receipt.uri}: {describe_failure(error)}; run the same command again"
            ) from error
        store.remove(receipt_uri(receipt.uri))
        raise DamagedArtifactError(
            f"artifact {store.uri}/{receipt.uri} is damaged: {describe_failure(error)}; run the same command again, "
            "it is made anew"
        ) from error


def read_footer(file: IO[bytes], receipt: Receipt) -> pq.FileMetaData | None:
    """Return the checked footer of a partition's file; None if an older receipt holds no digest of it.

    The checksums of pages do not cover the footer, in which a flipped bit can rename a column or move its data.
    Errors: ArrowInvalid for a changed footer.
    """
    if receipt.footer is None:
        return None
    file.seek(receipt.bytes - receipt.footer.bytes)
    footer = file.read()
    if hashlib.sha256(footer).hexdigest() != receipt.footer.sha256:
        raise pa.ArrowInvalid("its footer is not the one that was written")
    return pq.read_metadata(pa.BufferReader(footer))


def describe_footer(data: bytes) -> Footer:
    """Return length and digest of the footer of Parquet bytes. It includes the last 8 bytes: its length and a mark."""
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") :]
    return Footer(bytes=len(footer), sha256=hashlib.sha256(footer).hexdigest())


def receipt_uri(uri: str) -> str:
    """Return the path of an artifact's receipt, relative to the store."""
    return f"{uri.rsplit('.', 1)[0]}.json"


def encode_table(table: pa.Table) -> bytes:
    """Return a table as Parquet bytes. Equal tables give equal bytes under one pyarrow version."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", compression_level=3, write_page_checksum=True, row_group_size=65536)
    return out.getvalue()


def run_once(store: Store, address: Address, produce: Callable[[], Made]) -> Receipt:
    """Return the receipt of `address`. Unless the work is finished, do it and commit it first.

    Errors: StoreError; those of `produce`.
    """
    if found := find_receipt(store, address):
        return found

    # The first work of its kind in a process is cold: it loads models.
    effort = describe_effort(address)
    kind = (address.stage.name, effort.like)
    effort = effort.model_copy(update={"cold": kind not in _warm})
    _warm.add(kind)

    started = time.perf_counter()
    with working(f"{address.stage.name}: {address.label}"):
        made = produce()
    table = made.table.cast(address.stage.schema).replace_schema_metadata(None)
    seconds = time.perf_counter() - started
    compute = seconds - made.timings.get("load", 0.0) - made.timings.get("wait", 0.0)

    return commit(
        store,
        address,
        encode_table(table),
        rows=table.num_rows,
        counts=count_outcomes(table),
        timings={"compute": compute, **made.timings},
        details=made.details,
        effort=effort,
    )


def commit(
    store: Store,
    address: Address,
    data: bytes,
    *,
    rows: int,
    counts: Mapping[str, int],
    timings: Mapping[str, float],
    details: Mapping[str, Any],
    effort: Effort | None = None,
) -> Receipt:
    """Write a partition's file, then its receipt, and return the receipt. `data`: the Parquet bytes of its table.

    Errors: StoreError.
    """
    store.write_bytes(address.uri, data)

    receipt = Receipt(
        stage=address.stage.name,
        fingerprint=address.fingerprint,
        part=address.part,
        label=address.label,
        uri=address.uri,
        sha256=hashlib.sha256(data).hexdigest(),
        rows=rows,
        bytes=len(data),
        footer=describe_footer(data),
        counts=dict(counts),
        timings={name: round(value, 4) for name, value in timings.items()},
        models=dict(address.models),
        versions=library_versions(),
        details=dict(details),
        effort=effort,
    )

    store.write_bytes(address.receipt_uri, receipt.model_dump_json(indent=1).encode())
    return receipt


def count_outcomes(table: pa.Table) -> dict[str, int]:
    """Return the counts of rows by status, of failures by cause, and of rejections by reason.

    `tailforge status` and the report add them up.
    """
    counts: dict[str, int] = {}
    for column in ("status", "error", "reason"):
        if column in table.column_names:
            for entry in table[column].value_counts().to_pylist():
                if entry["values"] is not None:
                    counts[f"{column}:{entry['values']}"] = entry["counts"]
    return counts
