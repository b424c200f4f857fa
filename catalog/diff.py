"""Compare two versions row by row, by sample_id, on content and not on packaging."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailforge.catalog.reading.tables import LOOK, open_parquet
from tailforge.catalog.store import Store
from tailforge.schemas.errors import VerificationError
from tailforge.schemas.tables import MANIFEST, SHA256

PACKAGING = ("shard", "members")  # positions of a sample's files; the digests of its members are compared separately
LONG = ("provenance", "augmentation")  # texts compared by digest, so that a million fit into memory
ROWS = 16384  # rows compared at a time
DIGESTS = pa.list_(pa.struct([("field", pa.string()), ("sha256", SHA256)]))
Columns = Callable[[str], pa.ChunkedArray]
Flags = NDArray[np.bool_]
CONTENT = [name for name in MANIFEST.names if name not in (*PACKAGING, "sample_id")]


@dataclass(frozen=True)
class VersionDiff:
    """The difference of two versions, as sorted sample ids. `changed`: changed columns per id, or "members.<field>"."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, tuple[str, ...]]

    @property
    def is_empty(self) -> bool:
        """Return whether the versions have equal content."""
        return not (self.added or self.removed or self.changed)


def compare_versions(store: Store, old_folder: str, new_folder: str) -> VersionDiff:
    """Return the difference between the manifests of two folders, with one column of each in memory at a time.

    A column that an older manifest lacks counts as empty. Errors: VerificationError for a damaged manifest; StoreError.
    """

    def reader(manifest: pq.ParquetFile, folder: str) -> Columns:
        """Return a function from a column's name to the column."""

        def read(name: str) -> pa.ChunkedArray:
            """Return a column; of LONG columns the digests."""
            if name not in manifest.schema_arrow.names:
                kind = pa.binary() if name in LONG else MANIFEST.field(name).type
                return pa.chunked_array([pa.nulls(manifest.metadata.num_rows, kind)])
            if name not in LONG:
                found = manifest.read(columns=[name], use_threads=False)[name]
                if name in ("sample_id", "members") and found.null_count:
                    raise VerificationError(f"{folder}/manifest.parquet: a row has no {name}; {LOOK}")
                return found
            batches = manifest.iter_batches(ROWS, columns=[name], use_threads=False)
            return pa.chunked_array([_digest(batch[name]) for batch in batches], pa.binary())

        return read

    with (
        open_parquet(store, f"{old_folder}/manifest.parquet") as old,
        open_parquet(store, f"{new_folder}/manifest.parquet") as new,
    ):
        return compare_manifests(reader(old, old_folder), reader(new, new_folder))


def _digest(texts: pa.Array) -> pa.Array:
    """Return the sha256 per text, null for null."""
    found = (None if text is None else hashlib.sha256(text.encode()).digest() for text in texts.to_pylist())
    return pa.array(found, pa.binary())


def compare_manifests(old: Columns, new: Columns) -> VersionDiff:
    """Return the difference from `old` to `new`, functions from the name of a MANIFEST column to the column."""
    # Rows of the samples in both versions.
    old_ids, new_ids = (_combine(columns("sample_id")) for columns in (old, new))
    place = pc.index_in(new_ids, value_set=old_ids)
    in_new, in_old = pc.indices_nonzero(pc.is_valid(place)), place.drop_null()

    # Changed columns and members, by row of the common samples.
    changed: dict[int, list[str]] = {}
    for name in CONTENT:
        for start, before, after in _pair(_combine(old(name)), in_old, _combine(new(name)), in_new):
            for row in np.flatnonzero(_differ(before, after)).tolist():
                changed.setdefault(start + row, []).append(name)
    for start, before, after in _pair(_digests(old("members")), in_old, _digests(new("members")), in_new):
        for row, field in _differing_members(before, after):
            changed.setdefault(start + row, []).append(f"members.{field}")

    ids = new_ids.take(in_new.take(pa.array(list(changed), pa.int64()))).to_pylist()
    return VersionDiff(
        added=tuple(sorted(new_ids.filter(pc.is_null(place)).to_pylist())),
        removed=tuple(sorted(old_ids.filter(pc.invert(pc.is_in(old_ids, value_set=new_ids))).to_pylist())),
        changed={sample_id: tuple(names) for sample_id, names in sorted(zip(ids, changed.values(), strict=True))},
    )


def _combine(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, since taking rows from many chunks is slow."""
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else combined.chunk(0)


def _pair(old: pa.Array, in_old: pa.Array, new: pa.Array, in_new: pa.Array) -> Iterator[tuple[int, pa.Array, pa.Array]]:
    """Yield (first row, old values, new values) of the common samples, ROWS at a time."""
    for start in range(0, len(in_old), ROWS):
        yield start, old.take(in_old.slice(start, ROWS)), new.take(in_new.slice(start, ROWS))


def _differ(old: pa.Array, new: pa.Array) -> Flags:
    """Return which values differ, bool [rows]. Two NaN values are equal."""
    if old.type != new.type:  # an older schema
        return np.array([a != b for a, b in zip(old.to_pylist(), new.to_pylist(), strict=True)], np.bool_)
    differ: Flags = np.not_equal(old.is_valid(), new.is_valid())

    # Lists and records differ if any of their parts differs.
    if pa.types.is_list(old.type):
        lengths = [pc.fill_null(pc.list_value_length(each), 0).to_numpy() for each in (old, new)]
        differ |= lengths[0] != lengths[1]
        alike = np.flatnonzero(~differ)
        old, new = old.take(pa.array(alike)), new.take(pa.array(alike))
        entries = _differ(old.flatten(), new.flatten())
        differ[alike[pc.list_parent_indices(old).to_numpy()[entries]]] = True
    elif pa.types.is_struct(old.type):
        for field in old.type:
            differ |= _differ(pc.struct_field(old, field.name), pc.struct_field(new, field.name))
    else:
        unequal = pc.not_equal(old, new)
        if pa.types.is_floating(old.type):
            unequal = pc.and_not(unequal, pc.and_(pc.is_nan(old), pc.is_nan(new)))
        differ |= pc.fill_null(unequal, False).to_numpy(zero_copy_only=False)
    return differ


def _differing_members(old: pa.Array, new: pa.Array) -> list[tuple[int, str]]:
    """Return (row, field) of each member that is new, gone or has another digest."""
    rows = np.flatnonzero(_differ(old, new))
    found = []
    for row, *pair in zip(rows.tolist(), *(each.take(pa.array(rows)).to_pylist() for each in (old, new)), strict=True):
        before, after = ({member["field"]: member["sha256"] for member in members} for members in pair)
        names = (field for field in sorted({*before, *after}) if before.get(field) != after.get(field))
        found += [(row, field) for field in names]
    return found


def _digests(members: pa.ChunkedArray) -> pa.Array:
    """Return MEMBERS without their positions in the tar."""
    return _combine(pa.chunked_array([_leave_places_out(chunk) for chunk in members.chunks], DIGESTS))


def _leave_places_out(members: pa.Array) -> pa.Array:
    """Return one array of MEMBERS without positions."""
    flat = members.flatten()
    kept = pa.StructArray.from_arrays(
        [pc.struct_field(flat, f.name) for f in DIGESTS.value_type], fields=DIGESTS.value_type
    )
    starts = np.concatenate([[0], np.cumsum(pc.list_value_length(members).to_numpy())])
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), kept)
