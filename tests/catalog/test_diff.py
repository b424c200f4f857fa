"""Row-level differences: content decides, packaging does not."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.catalog.diff import VersionDiff, compare_manifests, compare_versions
from tailforge.catalog.registry import next_version
from tailforge.catalog.store import Store
from tailforge.schemas.tables import MANIFEST


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


def test_a_score_that_stays_no_number_has_not_changed() -> None:
    nan = float("nan")
    old = [row("a", verifier_agreement=nan), row("b", verifier_agreement=nan), row("c")]
    new = [row("a", verifier_agreement=nan), row("b", verifier_agreement=0.5), row("c", verifier_agreement=nan)]
    changed = ("verifier_agreement",)
    assert compare(old, new).changed == {"b": changed, "c": changed}


def test_values_in_values_are_compared() -> None:
    def box(*numbers: float) -> list[dict[str, Any]]:
        return [{"slot": "concept", "bbox": list(numbers)}, {"slot": "place", "bbox": None}]

    old = [row("a", instances=box(1, 2)), row("b", instances=box(1, 2)), row("c", instances=None), row("d")]
    new = [row("d"), row("c", instances=[]), row("b", instances=box(1, 3)), row("a", instances=box(1, 2))]
    assert compare(old, new).changed == {"b": ("instances",), "c": ("instances",)}


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_the_difference_is_that_of_the_rows_as_python_sees_them(seed: int, rows: int) -> None:
    draw = random.Random(seed)
    old, new = ([_draw_row(draw, name) for name in names] for names in (draw.sample("abcdefgh", 6) for _ in range(2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tailforge.catalog.diff.ROWS", rows)
        found = compare(old, new)
    before, after = ({each["sample_id"]: each for each in table} for table in (old, new))
    assert (found.added, found.removed) == tuple(
        tuple(sorted(set(one) - set(other))) for one, other in ((after, before), (before, after))
    )
    assert set(found.changed) == {n for n in before.keys() & after.keys() if before[n] != after[n]}
    for name, fields in found.changed.items():
        assert {f.split(".")[0] for f in fields} == {k for k in after[name] if before[name][k] != after[name][k]}


def _draw_row(draw: random.Random, name: str) -> dict[str, Any]:
    return row(
        name,
        caption=draw.choice([None, "x", "y"]),
        clip_score=draw.choice([None, 0.5]),
        slots=draw.choice([None, [], [{"name": "a", "value": draw.choice("xy"), "start": 0, "end": 1}]]),
        members=[member("png", draw.choice([b"\0", b"\1"]))] * draw.choice([0, 1]),
    )
