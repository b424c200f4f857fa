"""Write the data files of a version into a hidden folder: shards, manifest.parquet and rejects.parquet."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Counts, FileEntry
from tailforge.schemas.errors import DamagedArtifactError
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.tables import MANIFEST, REJECTS
from tailforge.tasks.artifacts.contract import read_table, receipt_uri
from tailforge.tasks.artifacts.partitions import BuiltPartition, Variant, list_dropped, load_columns, split_by_partition
from tailforge.tasks.methods.packing.members import reject_rows
from tailforge.tasks.report.outcomes import select_refused, select_surplus


def assemble(
    store: Store,
    folder: str,
    build: BuildContext,
    selection: Receipt,
    partitions: Sequence[BuiltPartition],
    shards: Sequence[Receipt],
) -> Counts:
    """Write manifest.parquet and rejects.parquet, on a local disk also the shards, and return the version's counts.

    Errors: DamagedArtifactError, StoreError.
    """
    if store.is_local:
        for shard in shards:
            _require_intact(store, shard)
            store.copy(shard.details["files"]["tar"]["uri"], f"{folder}/shards/{shard.details['shard']}")

    by_split: Counter[str] = Counter()
    by_concept: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()

    def manifest() -> Iterator[pa.Table]:
        """Yield the manifest's rows per shard and count them."""
        for shard in shards:
            rows = read_table(store, shard)
            by_split.update(rows["split"].to_pylist())
            by_concept.update(rows["concept"].to_pylist())
            yield rows

    def rejects() -> Iterator[pa.Table]:
        """Yield the rejects per partition and count them."""
        for rows in _read_rejects(store, build, selection, partitions):
            outcomes.update(surplus=select_surplus(rows).num_rows, rejected=select_refused(rows).num_rows)
            yield rows

    with ThreadPoolExecutor(1) as beside:  # reading many small tables takes as long as writing one large one
        written = beside.submit(_write_table, store, f"{folder}/rejects.parquet", REJECTS, rejects())
        _write_table(store, f"{folder}/manifest.parquet", MANIFEST, manifest())
        written.result()

    return Counts(
        samples=sum(by_split.values()),
        rejected=outcomes["rejected"],
        surplus=outcomes["surplus"],
        by_split=dict(sorted(by_split.items())),
        by_concept={concept.name: by_concept[concept.name] for concept in build.recipe.concepts},
    )


def _require_intact(store: Store, shard: Receipt) -> None:
    """Check a tar's digest, since nothing reads it after packing. An object store checks its own bytes.

    Errors: DamagedArtifactError; the next build makes the shard again.
    """
    tar = shard.details["files"]["tar"]
    if digest_file(store, tar["uri"]) != FileEntry(bytes=tar["bytes"], sha256=tar["sha256"]):
        store.remove(receipt_uri(shard.uri))
        raise DamagedArtifactError(
            f"shard {store.uri}/{tar['uri']} is damaged: its bytes are not those that were written; run the same "
            "command again to make it again"
        )


def _write_table(store: Store, path: str, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    """Write one row group per table, so that a shard's rows form one group of the manifest."""

    def write_to(out: Any) -> None:
        """Write all tables to an open file."""
        options = {"compression": "zstd", "compression_level": 3, "write_page_index": True, "write_page_checksum": True}
        with pq.ParquetWriter(out, schema.with_metadata({"tailforge.format": "1"}), **options) as writer:
            for table in tables:
                writer.write_table(table.cast(schema), row_group_size=max(table.num_rows, 1))

    store.write(path, write_to)


def _read_rejects(
    store: Store, build: BuildContext, selection: Receipt, partitions: Sequence[BuiltPartition]
) -> Iterator[pa.Table]:
    """Yield the rows of REJECTS per partition, in row order."""
    chosen = read_table(store, selection, ["partition", "row", "accepted", "reason"])
    for index, own in split_by_partition(chosen):
        if rejected := _list_rejected(store, partitions[index], own):
            variants, reasons = zip(*rejected, strict=True)
            columns = load_columns(store, build.recipe, partitions[index], variants)
            yield reject_rows(columns.published, columns.outcomes, reasons)


def _list_rejected(store: Store, partition: BuiltPartition, chosen: pa.Table) -> list[tuple[Variant, str | None]]:
    """Return the excluded variants of a partition with reasons: samples, then copies of published samples."""
    refused = chosen.filter(pc.invert(chosen["accepted"]))
    reasons = dict(zip(refused["row"].to_pylist(), refused["reason"].to_pylist(), strict=True))
    accepted = chosen.filter(chosen["accepted"])["row"].to_pylist()
    return [*(((row, -1), reason) for row, reason in reasons.items()), *list_dropped(store, partition, accepted)]


def locate_shards(store: Store, shards: Sequence[Receipt]) -> dict[str, str]:
    """Return the addresses of shards that stay in place until the claim, by their path in the version.

    These are the shards of an object store, where copies take time. On a local disk the folder must be complete,
    and hard
    links cost nothing.
    """
    if store.is_local:
        return {}
    return {f"shards/{shard.details['shard']}": str(shard.details["files"]["tar"]["uri"]) for shard in shards}


def digest_file(store: Store, path: str) -> FileEntry:
    """Return size and sha256 of a file of the store. Errors: StoreError."""
    with store.open_read(path) as file:
        return FileEntry(bytes=store.size(path), sha256=hashlib.file_digest(file, "sha256").hexdigest())  # type: ignore[arg-type]
