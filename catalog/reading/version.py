"""Open and check a published version, for all commands. Training jobs use open_dataset.py instead.

All results are safe to use, also for versions of unknown origin. dataset.json is validated (schemas/dataset.py), and
tables have the digests that it lists. Values that become paths, positions in a file or classes are checked on reading.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailforge.catalog.reading.tables import LOOK, damage_errors, open_parquet, read_columns
from tailforge.catalog.reading.tars import BLOCK
from tailforge.catalog.registry import load_dataset, version_folder
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.sample import MOST_SIDE
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import VerificationError
from tailforge.schemas.tables import MANIFEST, REJECTS, is_published_type

TABLES: Mapping[str, pa.Schema] = {"manifest": MANIFEST, "rejects": REJECTS}
PLACES = ("sample_id", "split", "shard", "members")  # columns that locate a sample
# Columns of every version; older versions lack the others, which are then empty.
NEEDED = ("sample_id", "concept", "class_id", "caption", "width", "height", "split", "shard", "members")
SAMPLE_ID = r"^[0-9a-f]{16}$"
RLE = r"^[0-o]*$"
MOST_COUNT = 2**31 - 1


@dataclass(frozen=True)
class Version:
    """A published version; use `open_version` to get one. `folder`: path relative to the store."""

    store: Store
    dataset: Dataset
    folder: str

    @property
    def label(self) -> str:
        """Return name@version."""
        return f"{self.dataset.name}@{self.dataset.version}"

    def path(self, table: str) -> str:
        """Return the path of one of TABLES, relative to the store."""
        return f"{self.folder}/{table}.parquet"

    def read_table(self, table: str, columns: Iterable[str]) -> pa.Table:
        """Return those of the columns that the table has, after checks. Errors: VerificationError, StoreError."""
        wanted = tuple(columns)
        found = read_columns(self.store, self.path(table), wanted)
        self._require_columns(table, found.schema, wanted)
        self._require_possible(table, found)
        return found

    def list_columns(self, table: str) -> list[str]:
        """Return the names of the table's columns. Errors: VerificationError, StoreError."""
        with open_parquet(self.store, self.path(table)) as parquet:
            return list(parquet.schema_arrow.names)

    def read_row(self, table: str, sample_id: str) -> dict[str, Any] | None:
        """Return a sample's checked row with every column of the schema, or None if the table has no such sample.

        Columns that an older version lacks are None. Errors: VerificationError, StoreError.
        """
        names = TABLES[table].names
        with open_parquet(self.store, self.path(table)) as parquet:
            self._require_columns(table, parquet.schema_arrow, names)
            known = [name for name in names if name in parquet.schema_arrow.names]
            found = parquet.read(known, use_threads=False)
            found = found.filter(pc.equal(found["sample_id"], sample_id))
            self._require_possible(table, found)
            rows = found.to_pylist()
        return {**dict.fromkeys(names), **rows[0]} if rows else None

    def _require_columns(self, table: str, found: pa.Schema, wanted: Iterable[str]) -> None:
        """Check types of the columns, and that no needed column is missing. Errors: VerificationError."""
        needed = [name for name in wanted if name in NEEDED]
        if problem := check_schema(found, TABLES[table], needed):
            raise VerificationError(f"{self.store.uri}/{self.path(table)}: {problem}; {LOOK}")

    def _require_possible(self, table: str, found: pa.Table) -> None:
        """Check the values of a table. Errors: VerificationError, ArrowInvalid."""
        found.validate(full=True)
        if problem := find_strange(found, self.dataset):
            raise VerificationError(f"{self.store.uri}/{self.path(table)}: {problem}; {LOOK}")

    def read_member(self, row: Mapping[str, Any], field: str) -> bytes | None:
        """Return the bytes of a sample's field, or None if it has no such field. `row`: shard and members, checked.

        Errors: VerificationError for bytes other than those published; StoreError.
        """
        for member in row.get("members") or ():
            if member["field"] == field:
                path = f"{self.folder}/shards/{row['shard']}"
                with damage_errors(f"{self.store.uri}/{path}"):
                    data = self.store.read_range(path, member["offset"], member["size"])
                if hashlib.sha256(data).digest() != member["sha256"]:
                    raise VerificationError(
                        f"{self.store.uri}/{path}: {row['sample_id']}.{field} is not as it was published; {LOOK}"
                    )
                return data
        return None


def open_version(store: Store, name: str, version: str = "latest", tables: Iterable[str] = ()) -> Version:
    """Open a version and compare the given tables with their entries in dataset.json.

    Errors: NotFoundError if there is no such version; VerificationError for a damaged version; StoreError.
    """
    dataset, folder = load_dataset(store, name, version), version_folder(store, name, version)
    found = Version(store, dataset, folder)
    for table in tables:
        _check_table(found, table)
    return found


def check_schema(found: pa.Schema, schema: pa.Schema, columns: Iterable[str]) -> str | None:
    """Return the problem of a table's columns, or None. Unknown columns are allowed."""
    for field in found:
        if field.name in schema.names and not is_published_type(field, schema):
            return f"column {field.name} holds {field.type!s:.80}, which no version has"
    lost = [name for name in columns if name in schema.names and name not in found.names]
    return f"there is no column {lost[0]}" if lost else None


def find_strange(table: pa.Table, dataset: Dataset) -> str | None:
    """Return a sentence on the first column with an impossible value for this version, or None."""
    for name, is_strange in _checks(dataset).items():
        if name in table.column_names and is_strange(table[name].combine_chunks()):
            return f"column {name} holds a value that no row of this version can have"
    return None


def _check_table(version: Version, table: str) -> None:
    """Compare a table's bytes, columns and rows with dataset.json. Errors: VerificationError."""
    origin, counts = f"{version.store.uri}/{version.path(table)}", version.dataset.counts
    entry = version.dataset.files.get(f"{table}.parquet")
    if entry is None:
        raise VerificationError(f"{origin}: dataset.json does not list this file; {LOOK}")

    with open_parquet(version.store, version.path(table), entry) as parquet:
        problem = check_schema(parquet.schema_arrow, TABLES[table], PLACES)
        rows = parquet.metadata.num_rows

    expected = counts.samples if table == "manifest" else counts.rejected + counts.surplus
    if problem is None and rows != expected:
        problem = f"it has {count_of(rows, 'row')}, dataset.json says {expected}"
    if problem:
        raise VerificationError(f"{origin}: {problem}; {LOOK}")


def _checks(dataset: Dataset) -> Mapping[str, Callable[[pa.Array], bool]]:
    """Return a function per column that returns whether an array holds an impossible value."""
    splits, shards = ({getattr(shard, name) for shard in dataset.shards} for name in ("split", "name"))
    sizes = {shard.name: shard.bytes for shard in dataset.shards}

    return {
        "sample_id": _not_matching(SAMPLE_ID),
        "parent_id": _not_matching(SAMPLE_ID, nulls=True),
        "concept": _not_among(dataset.classes),
        "class_id": _not_between(0, len(dataset.classes) - 1),
        "caption": lambda values: values.null_count > 0,
        "slots": _strange_slots,
        "prompt_index": _not_between(0, MOST_COUNT),
        "replica": _not_between(0, MOST_COUNT),
        "attempt": _not_between(0, MOST_COUNT),
        "seed": lambda values: values.null_count > 0,
        "width": _not_between(1, MOST_SIDE, nulls=True),
        "height": _not_between(1, MOST_SIDE, nulls=True),
        "instances": _strange_instances,
        "split": _not_among(splits),
        "shard": _not_among(shards),
        "members": lambda values: _strange_members(values, dataset.fields, max(sizes.values(), default=0)),
    }


def _not_matching(pattern: str, *, nulls: bool = False) -> Callable[[pa.Array], bool]:
    """Return a check for texts outside a pattern, and for nulls unless allowed."""

    def is_strange(values: pa.Array) -> bool:
        return (values.null_count > 0 and not nulls) or not _all(pc.match_substring_regex(values, pattern))

    return is_strange


def _not_among(known: Iterable[str]) -> Callable[[pa.Array], bool]:
    """Return a check for texts that are not in `known`."""
    allowed = pa.array(sorted(known), pa.string())
    return lambda values: not _all(pc.is_in(values, value_set=allowed))


def _not_between(low: int, high: int, *, nulls: bool = False) -> Callable[[pa.Array], bool]:
    """Return a check for numbers outside low..high, and for nulls unless allowed."""

    def is_strange(values: pa.Array) -> bool:
        return (values.null_count > 0 and not nulls) or not _all(
            pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
        )

    return is_strange


def _all(flags: pa.Array) -> bool:
    """Return whether no flag is false. Nulls do not count, so an empty array returns True."""
    return bool(pc.all(flags, min_count=0).as_py())


def _strange_slots(values: pa.Array) -> bool:
    """Return whether a slot lacks a value."""
    flat = values.flatten()
    return flat.null_count > 0 or any(
        pc.struct_field(flat, name).null_count > 0 for name in ("name", "value", "start", "end")
    )


def _strange_instances(values: pa.Array) -> bool:
    """Return whether run lengths or a box are unreadable. Rows without regions may be null."""
    flat = values.flatten()
    parts = {name: pc.struct_field(flat, name) for name in ("category", "category_id", "bbox", "area", "rle")}
    if flat.null_count or any(part.null_count for part in parts.values()):
        return True
    boxes = parts["bbox"].flatten().to_numpy(zero_copy_only=False)
    return (
        not _all(pc.match_substring_regex(parts["rle"], RLE))
        or not _all(pc.equal(pc.list_value_length(parts["bbox"]), 4))
        or not bool(np.isfinite(boxes).all() and (boxes >= 0).all())
    )


def _strange_members(values: pa.Array, fields: tuple[str, ...], most_bytes: int) -> bool:
    """Return whether members differ from `fields`, or are outside of any shard of at most `most_bytes`."""
    # No value may be missing.
    flat = values.flatten()
    parts = {name: pc.struct_field(flat, name) for name in ("field", "offset", "size", "sha256")}
    if values.null_count or flat.null_count or any(part.null_count for part in parts.values()):
        return True

    # Each sample has all fields, in their order.
    if not _all(pc.equal(pc.list_value_length(values), len(fields))):
        return True
    places = pc.index_in(parts["field"], value_set=pa.array(fields)).to_numpy(zero_copy_only=False)
    if not np.array_equal(places, np.tile(np.arange(len(fields)), len(values))):
        return True

    offsets, sizes = (parts[name].to_numpy(zero_copy_only=False) for name in ("offset", "size"))
    return bool(((offsets < BLOCK) | (sizes < 0) | (offsets > most_bytes) | (sizes > most_bytes - offsets)).any())
