"""What differs between two versions, row by row: compared by sample_id, on content and never on packaging."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.store import Store
from schemas.tables import MANIFEST

PACKAGING = ("shard", "members")  # where a sample lies; the digests of its members are compared all the same
Columns = Callable[[str], pa.ChunkedArray]
CONTENT = [name for name in MANIFEST.names if name not in (*PACKAGING, "sample_id")]


@dataclass(frozen=True)
class VersionDiff:
    """Sample ids, sorted; `changed` maps a sample to its changed columns, a member as "members.<field>"."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, tuple[str, ...]]

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.removed or self.changed)


def compare_versions(store: Store, old_folder: str, new_folder: str) -> VersionDiff:
    """Difference between the manifests of two folders; holds one column of each in memory at a time.

    A column that a manifest does not have, as one of an older schema may not, counts as empty.
    """

    def reader(folder: str) -> Columns:
        def read(name: str) -> pa.ChunkedArray:
            with store.open_read(f"{folder}/manifest.parquet") as file:
                manifest = pq.ParquetFile(file)
                if name not in manifest.schema_arrow.names:
                    return pa.chunked_array([pa.nulls(manifest.metadata.num_rows, MANIFEST.field(name).type)])
                return manifest.read(columns=[name], use_threads=False)[name]

        return read

    return compare_manifests(reader(old_folder), reader(new_folder))


def compare_manifests(old: Columns, new: Columns) -> VersionDiff:
    """Difference from `old` to `new`, each a function from a MANIFEST column's name to the column."""
    old_ids, new_ids = (columns("sample_id").combine_chunks() for columns in (old, new))
    place = pc.index_in(new_ids, value_set=old_ids)
    in_new, in_old = pc.is_valid(place), place.drop_null()
    ids = new_ids.filter(in_new).to_pylist()
    changed: dict[str, list[str]] = {}
    for name in CONTENT:
        for row in _differing_rows(old(name).take(in_old), new(name).filter(in_new)):
            changed.setdefault(ids[row], []).append(name)
    for row, field in _differing_members(old("members").take(in_old), new("members").filter(in_new)):
        changed.setdefault(ids[row], []).append(f"members.{field}")
    return VersionDiff(
        added=tuple(sorted(new_ids.filter(pc.is_null(place)).to_pylist())),
        removed=tuple(sorted(old_ids.filter(pc.invert(pc.is_in(old_ids, value_set=new_ids))).to_pylist())),
        changed={sample_id: tuple(changed[sample_id]) for sample_id in sorted(changed)},
    )


def _differing_rows(old: pa.ChunkedArray, new: pa.ChunkedArray) -> list[int]:
    if old.equals(new):
        return []
    pairs = zip(old.to_pylist(), new.to_pylist(), strict=True)
    return [row for row, (before, after) in enumerate(pairs) if before != after]


def _differing_members(old: pa.ChunkedArray, new: pa.ChunkedArray) -> list[tuple[int, str]]:
    """(row, field) of every member that came, went or has another digest."""
    if _same_digests(old, new):
        return []
    found = []
    for row, pair in enumerate(zip(old.to_pylist(), new.to_pylist(), strict=True)):
        before, after = ({member["field"]: member["sha256"] for member in members} for members in pair)
        found += [(row, field) for field in sorted({*before, *after}) if before.get(field) != after.get(field)]
    return found


def _same_digests(old: pa.ChunkedArray, new: pa.ChunkedArray) -> bool:
    return all(np.array_equal(*pair) for pair in zip(_flatten(old), _flatten(new), strict=True))


def _flatten(members: pa.ChunkedArray) -> tuple[Any, ...]:
    entries = members.combine_chunks()
    flat = entries.flatten()
    lengths = pc.list_value_length(entries).to_numpy(zero_copy_only=False)
    return lengths, *(pc.struct_field(flat, name).to_numpy(zero_copy_only=False) for name in ("field", "sha256"))
