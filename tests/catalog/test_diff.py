"""Row-level differences: content decides, packaging does not."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.diff import VersionDiff, compare_manifests, compare_versions
from catalog.registry import next_version
from catalog.store import Store
from schemas.tables import MANIFEST


def member(field: str, sha: bytes = b"\0", offset: int = 512) -> dict[str, Any]:
    return {"field": field, "offset": offset, "size": 1, "sha256": sha * 32}


def row(sample_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "split": "train",
        "shard": "train-000000.tar",
        "members": [member("png")],
        **changes,
    }


def compare(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> VersionDiff:
    tables = [pa.Table.from_pylist(rows, schema=MANIFEST) for rows in (old, new)]
    return compare_manifests(*(table.__getitem__ for table in tables))


def test_added_removed_and_changed_rows_are_named() -> None:
    found = compare([row("a"), row("b"), row("c")], [row("c", caption="new"), row("d"), row("a")])
    assert found == VersionDiff(("d",), ("b",), {"c": ("caption",)})


def test_order_and_place_are_packaging() -> None:
    moved = row("a", shard="train-000009.tar", members=[member("png", offset=9999)])
    assert compare([row("a"), row("b")], [row("b"), moved]).is_empty


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"split": "test"}, ("split",)),
        ({"members": [member("png", b"\1")]}, ("members.png",)),
        ({"members": [member("jpg")]}, ("members.jpg", "members.png")),
        ({"members": [member("json"), member("png")]}, ("members.json",)),
        ({"instances": [{"slot": "concept", "area": 3}]}, ("instances",)),
        ({"clip_score": 0.5, "seed": 3}, ("seed", "clip_score")),
    ],
)
def test_changed_content_names_its_fields(changes: dict[str, Any], fields: tuple[str, ...]) -> None:
    assert compare([row("a"), row("b")], [row("a", **changes), row("b")]).changed == {"a": fields}


@pytest.mark.parametrize(
    ("previous", "difference", "version"),
    [
        (None, VersionDiff((), (), {}), "1.0.0"),
        ("1.2.3", VersionDiff((), (), {}), "1.2.4"),
        ("1.2.3", VersionDiff(("a",), (), {}), "1.3.0"),
        ("1.2.3", VersionDiff(("a",), ("b",), {}), "2.0.0"),
        ("1.2.3", VersionDiff(("a",), (), {"c": ("split",)}), "2.0.0"),
        ("9.9.9", VersionDiff(("a",), (), {}), "9.10.0"),
    ],
)
def test_version_numbers(previous: str | None, difference: VersionDiff, version: str) -> None:
    assert next_version(previous, difference) == version


def test_empty_versions_compare() -> None:
    assert compare([], [row("a")]) == VersionDiff(("a",), (), {})
    assert compare([row("a")], []) == VersionDiff((), ("a",), {})


def test_a_column_of_a_newer_schema_is_empty_in_an_older_manifest(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    new = pa.Table.from_pylist([row("a", mask_agreement=0.5), row("b")], schema=MANIFEST)
    for folder, manifest in (("old", new.drop_columns(["mask_agreement"])), ("new", new)):
        (tmp_path / folder).mkdir()
        pq.write_table(manifest, tmp_path / folder / "manifest.parquet")
    assert compare_versions(store, "old", "new") == VersionDiff((), (), {"a": ("mask_agreement",)})
