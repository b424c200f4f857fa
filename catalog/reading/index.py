"""Index a split from a version's manifest: its selected samples, and the positions of their bytes in the shards."""

import difflib
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailforge.catalog.reading.tables import LOOK, open_parquet
from tailforge.catalog.reading.version import SAMPLE_ID, check_schema
from tailforge.catalog.registry import DATASET_FILE
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset, ShardEntry
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import NotFoundError, ReadingError, VerificationError
from tailforge.schemas.tables import MANIFEST

SHORT_NAMES = {"validation": "val"}  # names of splits in other tools
MANIFEST_FILE = "manifest.parquet"
MEMBER = "members.list.element."  # prefix of a member's columns in Parquet


@dataclass(frozen=True)
class ShardRows:
    """Positions of samples in a shard.

    `keys`: sample ids. `offsets` and `sizes`: bytes, int64 [sample, field]. `digests`: sha256, or None if not read.
    """

    keys: list[str]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    digests: NDArray[np.object_] | None


@dataclass(frozen=True)
class SplitIndex:
    """The selected samples of a split.

    `groups`: the manifest's row group of each shard. `rows`: rows of each shard that a filter keeps, int32 in ascending
    order; None without a filter.
    """

    store: str
    folder: str
    name: str
    version: str
    split: str
    manifest: str  # sha256
    fields: tuple[str, ...]
    shards: tuple[ShardEntry, ...]
    groups: tuple[int, ...]
    rows: tuple[NDArray[np.int32], ...] | None = None

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Return the number of selected samples per shard, int64 [shard]."""
        kept = [len(rows) for rows in self.rows] if self.rows is not None else [shard.samples for shard in self.shards]
        return np.array(kept, np.int64)

    @property
    def samples(self) -> int:
        """Return the number of selected samples."""
        return int(self.counts.sum())

    def identify(self) -> dict[str, Any]:
        """Return the facts, as plain values, that decide which samples are selected."""
        return {
            "dataset": self.name,
            "version": self.version,
            "manifest": self.manifest,
            "split": self.split,
            "where": self.selection,
        }

    @cached_property
    def selection(self) -> str:
        """Return a digest of the selected rows; empty without a filter."""
        if self.rows is None:
            return ""
        return hashlib.sha256(b"|".join(rows.astype("<i4").tobytes() for rows in self.rows)).hexdigest()

    def path(self, shard: int) -> str:
        """Return the path of a shard, relative to the store."""
        return f"{self.folder}/shards/{self.shards[shard].name}"

    def locate(
        self, positions: NDArray[np.int64], order: NDArray[np.int64]
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (shard, positions in the shard, their rows) for ascending positions of an epoch.

        `order`: permutation of the shards. A position counts the selected samples of all shards in this order.
        """
        starts = np.concatenate([[0], np.cumsum(self.counts[order])])
        cuts = np.searchsorted(positions, starts)
        for slot in np.flatnonzero(np.diff(cuts)):
            shard = int(order[slot])
            here = positions[cuts[slot] : cuts[slot + 1]]
            rows = here - starts[slot]
            yield shard, here, rows if self.rows is None else self.rows[shard][rows].astype(np.int64)


def name_split(dataset: Dataset, split: str) -> str:
    """Return the version's name of a split; `val` and `validation` stand for each other.

    Errors: NotFoundError if the version has no such split.
    """
    known = {shard.split for shard in dataset.shards}
    for name in (split, *(long for long, short in SHORT_NAMES.items() if short == split), SHORT_NAMES.get(split)):
        if name in known:
            return name
    raise NotFoundError(
        f"{dataset.name} {dataset.version} has no split {split!r}; it has: {', '.join(dataset.counts.by_split)}"
    )


def index_split(store: Store, dataset: Dataset, folder: str, split: str, where: pc.Expression | None) -> SplitIndex:
    """Return the index of a split with the samples for which `where` holds; None selects all.

    Errors: NotFoundError for an unknown split or column; ReadingError for a filter that cannot be computed;
    VerificationError for a damaged version.
    """
    # The manifest has one row group per shard, in the order of the shards.
    split = name_split(dataset, split)
    groups = tuple(number for number, shard in enumerate(dataset.shards) if shard.split == split)
    shards = tuple(dataset.shards[group] for group in groups)

    if MANIFEST_FILE not in dataset.files:
        raise VerificationError(f"{store.uri}/{folder}/{DATASET_FILE} lists no {MANIFEST_FILE}; build the recipe again")
    digest = dataset.files[MANIFEST_FILE].sha256
    index = SplitIndex(store.uri, folder, dataset.name, dataset.version, split, digest, dataset.fields, shards, groups)
    return index if where is None else filter_index(store, index, where)


def filter_index(store: Store, index: SplitIndex, where: pc.Expression) -> SplitIndex:
    """Return the index with those of its samples for which `where` holds.

    Errors: NotFoundError for an unknown column; ReadingError for a filter that cannot be computed; VerificationError.
    """
    if not isinstance(where, pc.Expression):
        raise ReadingError(f"where={where!r} is no expression; give one such as pc.field('sharpness') > 100")
    with open_manifest(store, index.folder) as manifest:
        rows = [_filter_group(manifest, group, where) for group in index.groups]
    if index.rows is not None:
        rows = [np.intersect1d(old, new, assume_unique=True) for old, new in zip(index.rows, rows, strict=True)]
    return replace(index, rows=tuple(rows))


@contextmanager
def open_manifest(store: Store, folder: str) -> Iterator[pq.ParquetFile]:
    """Open a version's manifest. Errors: VerificationError if it is missing or damaged, also inside the context."""
    path = f"{folder}/{MANIFEST_FILE}"
    with open_parquet(store, path, in_ranges=True) as manifest:
        if problem := check_schema(manifest.schema_arrow, MANIFEST, ("sample_id", "shard", "members")):
            raise VerificationError(f"{store.uri}/{path}: {problem}; {LOOK}")
        yield manifest


def read_shard_rows(
    manifest: pq.ParquetFile, index: SplitIndex, shard: int, rows: NDArray[np.int64], *, digests: bool
) -> ShardRows:
    """Return the positions of the given rows of a shard, with `digests` also their sha256.

    Errors: VerificationError if the manifest disagrees with dataset.json.
    """
    entry, fields, group = index.shards[shard], list(index.fields), index.groups[shard]
    differs = VerificationError(
        f"{index.store}/{index.folder}/{MANIFEST_FILE} does not have the {count_of(entry.samples, 'sample')} of "
        f"{entry.name} with their members where dataset.json has them; run `tailforge verify` to see what is wrong"
    )
    if group >= manifest.num_row_groups:
        raise differs

    # The group must hold exactly this shard's samples, each with all fields.
    names = [f"{MEMBER}{name}" for name in ("field", "offset", "size", *(["sha256"] if digests else []))]
    table = manifest.read_row_group(group, columns=["sample_id", "shard", *names], use_threads=False)
    keys = table["sample_id"]
    members = pc.list_flatten(table["members"]).combine_chunks()
    shape = (table.num_rows, len(fields))
    if (
        pc.unique(table["shard"]).to_pylist() != [entry.name]
        or shape[0] != entry.samples
        or pc.struct_field(members, "field").to_pylist() != fields * shape[0]
    ):
        raise differs

    if keys.null_count or not pc.all(pc.match_substring_regex(keys, SAMPLE_ID)).as_py():
        raise VerificationError(
            f"{index.store}/{index.folder}/{MANIFEST_FILE}: a sample of {entry.name} has a strange id; sample "
            f"ids are 16 hex digits; {LOOK}"
        )

    def column(name: str) -> NDArray[Any]:
        """Return a number of the members of the requested rows, [row, field]."""
        found = pc.struct_field(members, name)
        if found.null_count:
            raise differs
        values: NDArray[Any] = found.to_numpy(zero_copy_only=False)
        return values.reshape(shape)[rows]

    # Members must be inside the shard, in ascending order and without overlap.
    offsets, sizes = column("offset"), column("size")
    if ((offsets < 0) | (sizes < 0) | (offsets > entry.bytes) | (sizes > entry.bytes - offsets)).any():
        raise differs
    if (np.diff(offsets, axis=1) < sizes[:, :-1]).any() or (offsets[1:, 0] < offsets[:-1, -1] + sizes[:-1, -1]).any():
        raise differs
    return ShardRows(keys.take(pa.array(rows)).to_pylist(), offsets, sizes, column("sha256") if digests else None)


def read_labels(store: Store, index: SplitIndex, classes: int) -> NDArray[np.int64]:
    """Return the class of each selected sample by the manifest, int64 [N]; there are `classes` classes.

    Errors: VerificationError for a manifest without the column, or with a class that does not exist.
    """
    found = [np.empty(0, np.int64)]
    with open_manifest(store, index.folder) as manifest:
        for shard, group in enumerate(index.groups):
            labels = manifest.read_row_group(group, columns=["class_id"], use_threads=False)
            values = labels["class_id"].to_numpy() if labels.column_names else np.full(index.shards[shard].samples, -1)
            found.append(values if index.rows is None else values[index.rows[shard]])

    joined = np.concatenate(found)
    if not ((joined >= 0) & (joined < classes)).all():
        raise VerificationError(
            f"{index.store}/{index.folder}/{MANIFEST_FILE}: a row has no class_id from 0 to {classes - 1}; {LOOK}"
        )
    return joined.astype(np.int64)


def _filter_group(manifest: pq.ParquetFile, group: int, where: pc.Expression) -> NDArray[np.int32]:
    """Return the rows of a row group that a filter keeps, in ascending order."""
    schema = manifest.schema_arrow
    table = manifest.read_row_group(group, columns=_columns_of(where, schema), use_threads=False)
    keep = _compute(where, table)
    return np.flatnonzero(keep.fill_null(False)).astype(np.int32)


def _columns_of(where: pc.Expression, schema: pa.Schema) -> list[str]:
    """Return the columns that a filter needs. Errors: NotFoundError, ReadingError as `_explain`."""
    empty = schema.empty_table()
    try:
        computed = _compute(where, empty)
    except (pa.ArrowException, TypeError) as error:
        raise _explain(where, schema, error) from error
    if not pa.types.is_boolean(computed.type):
        raise ReadingError(f"where={where} gives {computed.type}; compare it, as in pc.field('sharpness') > 100")

    # Arrow does not list the columns of an expression, so compute it without each of them.
    def is_needed(name: str) -> bool:
        """Return whether the filter fails without a column."""
        try:
            _compute(where, empty.drop_columns(name))
        except pa.ArrowException:
            return True
        return False

    return [name for name in schema.names if is_needed(name)] or schema.names[:1]


def _compute(where: pc.Expression, table: pa.Table) -> pa.ChunkedArray:
    """Return the value of an expression per row."""
    import pyarrow.dataset as ds  # its import takes as long as the rest of this module

    return ds.dataset(table).to_table(columns={"keep": where})["keep"]


def _explain(where: pc.Expression, schema: pa.Schema, error: Exception) -> Exception:
    """Return NotFoundError for an unknown column, with similar names, and ReadingError for other failures."""
    if unknown := re.match(r"No match for FieldRef\.Name\((.*?)\)", str(error)):
        near = difflib.get_close_matches(unknown[1], schema.names, n=3) or schema.names
        return NotFoundError(f"where: the manifest has no column {unknown[1]!r}; did you mean {' or '.join(near)}?")
    return ReadingError(
        f"where={where} cannot be computed: {error}; give an expression such as pc.field('class_id') == 3"
    )
