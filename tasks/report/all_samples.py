"""Gather all images of a version's build in one table, with their outcomes, to compare versions."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tailforge.tasks.report.histograms import SCORES
from tailforge.tasks.report.outcomes import SURPLUS, select_originals

IDENTITY = ("sample_id", "concept", "phash")
MANIFEST_COLUMNS = (*IDENTITY, "parent_id", *SCORES)
REJECTS_COLUMNS = (*IDENTITY, "parent_id", "status", "reason", *SCORES)
ACCEPTED, REJECTED, FAILED = "accepted", "rejected", "failed"
OUTCOMES = (ACCEPTED, SURPLUS, REJECTED, FAILED)


def gather_images(manifest: pa.Table, rejects: pa.Table) -> pa.Table:
    """Return IDENTITY, every score and `outcome` (one of OUTCOMES) of all images, without augmented copies.

    `manifest` and `rejects` need only MANIFEST_COLUMNS and REJECTS_COLUMNS. A score missing in tables of an older
    schema is null.
    """
    accepted = _choose(select_originals(manifest))
    rejects = select_originals(rejects)
    lost = pc.if_else(
        pc.equal(pc.fill_null(rejects["status"], "ok"), "failed"),
        FAILED,
        pc.if_else(pc.equal(pc.fill_null(rejects["reason"], ""), SURPLUS), SURPLUS, REJECTED),
    )
    outcome = pa.chunked_array([pa.array([ACCEPTED] * len(accepted), pa.string()), *_strings(lost)])
    return pa.concat_tables([accepted, _choose(rejects)]).append_column("outcome", outcome)


def count_by_outcome(images: pa.Table) -> dict[str, int]:
    """Return the number of images per outcome of OUTCOMES."""
    counts = {row["values"]: row["counts"] for row in images["outcome"].value_counts().to_pylist()}
    return {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}


def _strings(values: pa.ChunkedArray) -> Sequence[pa.Array]:
    chunks: Sequence[pa.Array] = values.cast(pa.string()).chunks
    return chunks


def _choose(table: pa.Table) -> pa.Table:
    kinds = {
        "sample_id": pa.string(),
        "concept": pa.string(),
        "phash": pa.uint64(),
        **dict.fromkeys(SCORES, pa.float32()),
    }
    columns = {
        name: table[name].cast(kind) if name in table.column_names else pa.nulls(len(table), kind)
        for name, kind in kinds.items()
    }
    return pa.table(columns, pa.schema(list(kinds.items())))
