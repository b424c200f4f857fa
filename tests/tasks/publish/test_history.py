"""What the report reads of earlier versions, also of damaged ones and of those of an older schema."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailforge.catalog.store import Store
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.publish.history import VERSIONS, read_history
from tailforge.tasks.publish.publish import publish_version
from tailforge.tasks.report.all_samples import gather_images
from tailforge.tasks.report.data import Earlier
from tests.support.fabricate import make_build, make_recipe, pack_build
from tests.support.published_tables import publish_tables, write_tables
from tests.support.report_tables import make_manifest, make_rejects, make_row
from tests.support.report_tables import make_recipe as make_tiny_recipe

NEW = "new"  # the folder of the version that is being published


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"), create=True)


def make_tables(score: float, start: int, images: int = 40) -> tuple[pa.Table, pa.Table]:
    """Accepted gears of one score, and a hook that was rejected."""
    rows = [make_row(start + k, "gear", phash=start + k, clip_score=score, members=[]) for k in range(images)]
    return make_manifest(*rows), make_rejects(make_row(start + images, "hook", reason="clip_score_low"))


def publish(store: Store, version: str, score: float = 0.3, start: int = 0) -> tuple[pa.Table, pa.Table]:
    tables = make_tables(score, start)
    lineage = {"models": {"generator": {"digest": version, "revision": None}}, "versions": {"numpy": ["2.0"]}}
    publish_tables(store, make_tiny_recipe(), version, *tables, **lineage)
    return tables


def read(store: Store, tables: tuple[pa.Table, pa.Table], version: str = "9.0.0") -> Earlier:
    write_tables(store, NEW, *tables)
    return read_history(store, "tiny", version, NEW, gather_images(*tables), ["gear", "hook"])


def test_a_first_version_has_no_history(store: Store) -> None:
    assert read(store, make_tables(0.3, 0)) == Earlier([], [], [], None)


def test_versions_are_counted_and_compared_oldest_first(store: Store) -> None:
    publish(store, "1.0.0", 0.2)
    publish(store, "2.0.0", 0.3, start=100)
    publish(store, "10.0.0", 0.9, start=500)  # newer than the one that is published: another publisher was faster
    found = read(store, make_tables(0.3, 200))
    assert [each.version for each in found.versions] == ["1.0.0", "2.0.0"]
    first = found.versions[0]
    assert (first.wanted, first.accepted, first.rejected, first.made, first.seconds) == (5, 40, 1, 41, None)
    assert first.quartiles["clip_score"][3] == 40
    compared = [(each.version, each.concept, each.distance) for each in found.comparisons]
    assert compared == [("1.0.0", "", 1.0), ("2.0.0", "", 0.0), ("2.0.0", "gear", 0.0)]
    assert found.previous is not None
    assert (found.previous.version, found.previous.models) == ("2.0.0", {"generator": "2.0.0"})
    assert len(found.previous.added) == len(found.previous.removed) == 40
    assert found.previous.passed == {"gear": (40, 40), "hook": (0, 1)}


def test_at_most_the_last_ten_are_looked_at(store: Store) -> None:
    for number in range(VERSIONS + 2):
        publish(store, f"1.{number}.0", start=100 * number)
    found = read(store, make_tables(0.3, 9000))
    assert [each.version for each in found.versions] == [f"1.{number}.0" for number in range(2, VERSIONS + 2)]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dataset.json", b"{"),
        ("dataset.json", b'{"format": "tailforge-dataset/9"}'),
        ("manifest.parquet", b"PAR1 and no more"),
        ("manifest.parquet", None),
        ("rejects.parquet", None),
        ("rejects.parquet", b""),
    ],
)
def test_a_damaged_version_is_named_and_the_one_before_it_compared_with(
    store: Store, file: str, content: bytes | None
) -> None:
    publish(store, "1.0.0")
    publish(store, "2.0.0", start=100)
    path = f"datasets/tiny/2.0.0/{file}"
    store.remove(path) if content is None else store.write_bytes(path, content)
    found = read(store, make_tables(0.3, 200))
    assert [each.version for each in found.versions] == ["1.0.0"]
    assert [number for number, _ in found.unreadable] == ["2.0.0"]
    assert found.unreadable[0][1]
    assert found.previous is not None
    assert found.previous.version == "1.0.0"


def test_a_version_of_an_older_schema_is_compared_in_what_it_has(store: Store) -> None:
    manifest, rejects = make_tables(0.3, 0)
    gone = ["clip_score", "mask_agreement", "phash"]
    publish_tables(store, make_tiny_recipe(), "1.0.0", manifest.drop_columns(gone), rejects.drop_columns(gone))
    found = read(store, make_tables(0.3, 0))
    assert found.unreadable == []
    assert [each.accepted for each in found.versions] == [40]
    assert found.comparisons == []
    assert found.previous is not None
    assert set(found.previous.changed.values()) == {("clip_score", "phash")}


def test_seconds_come_from_the_report_of_that_version_where_it_has_one(store: Store) -> None:
    beyond = b'{"costs": {"seconds": 1' + b"0" * 400 + b"}}"
    summaries = (b'{"costs": {"seconds": 12.5}}', b"[]", b"{", b"[" * 100_000, b'{"costs": 5}', beyond)
    for number, summary in enumerate(summaries):
        publish(store, f"{number + 1}.0.0")
        store.write_bytes(f"datasets/tiny/{number + 1}.0.0/report/summary.json", summary)
    assert [each.seconds for each in read(store, make_tables(0.3, 0)).versions] == [12.5, *[None] * 5]


def build_and_publish(store: Store, recipe: Recipe, counts: dict[str, int], changed: str | None = None) -> None:
    build = make_build(store, recipe, counts, changed=changed)
    shards = [receipt.model_dump(mode="json") for receipt in pack_build(build)]
    publish_version.fn(*build.arguments, shards, [counts])


def read_report(store: Store, version: str) -> tuple[dict[str, object], str, set[str]]:
    """The summary, the page and the names of all files of a version's report."""
    folder = Path(store.path(f"datasets/parts/{version}/report"))
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return json.loads((folder / "summary.json").read_text()), (folder / "index.html").read_text(), names


def test_a_second_version_shows_what_came_went_and_changed(store: Store) -> None:
    build_and_publish(store, make_recipe(), {"gear": 16, "hook": 8})
    summary, page, _ = read_report(store, "1.0.0")
    assert summary["changes"] is None
    assert "First version." in page
    changed = _keep_sample(store)
    build_and_publish(store, make_recipe(), {"gear": 8, "ring": 8}, changed)
    summary, page, names = read_report(store, "2.0.0")
    changes = summary["changes"]
    assert isinstance(changes, dict)
    assert (changes["previous"], changes["changed"]) == ("1.0.0", 1)
    assert set(changes["added"]) == {"ring"}
    assert set(changes["removed"]) == {"gear", "hook"}
    assert f"before/{changed}.png" in names
    assert f"images/{changed}.png" in names
    shown = set(re.findall(r'<img src="([^"]+)"', page))
    assert shown == names - {"index.html", "summary.json"}
    assert len([name for name in names if name.startswith("before/")]) == 7  # six that went, one that changed
    assert "Since 1.0.0" in page


def _keep_sample(store: Store) -> str:
    """An accepted sample of the first partition of gears, which the second version has too."""
    with store.open_read("datasets/parts/1.0.0/manifest.parquet") as file:
        rows = pq.ParquetFile(file).read(["sample_id", "concept", "prompt_index"]).to_pylist()
    return min(row["sample_id"] for row in rows if row["concept"] == "gear" and row["prompt_index"] < 8)


def test_pictures_that_a_lost_shard_held_are_left_out(store: Store) -> None:
    build_and_publish(store, make_recipe(), {"gear": 8, "hook": 8})
    for shard in store.names("datasets/parts/1.0.0/shards"):
        store.remove(f"datasets/parts/1.0.0/shards/{shard}")
    build_and_publish(store, make_recipe(), {"gear": 8})
    summary, _, names = read_report(store, "2.0.0")
    assert isinstance(summary["changes"], dict)
    assert summary["changes"]["removed"]
    assert not [name for name in names if name.startswith("before/")]
