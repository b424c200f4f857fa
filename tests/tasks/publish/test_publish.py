"""Publication: what a version holds, how its number moves, and that nothing half-published is ever visible."""

import hashlib
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import time_machine

from tailforge.catalog.registry import list_datasets, list_versions, load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.schemas.errors import DamagedArtifactError, QuotaError
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.tables import MANIFEST, REJECTS
from tailforge.tasks.publish.publish import publish_version
from tests.support.fabricate import make_build, make_recipe, pack_build, publish_build
from tests.support.repository import ROOT

COUNTS = {"gear": 16, "hook": 8}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"), create=True)


def read_folder(store: Store, version: str) -> dict[str, bytes]:
    root = Path(store.path(f"datasets/parts/{version}"))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_first_version_holds_all_that_the_layout_names(store: Store) -> None:
    publication = publish_build(make_build(store, make_recipe(), COUNTS), {"report/index.html": b"<html>"})
    assert (publication.version, publication.is_new, publication.uri) == ("1.0.0", True, "datasets/parts/1.0.0")
    files, dataset = read_folder(store, "1.0.0"), load_dataset(store, "parts")
    assert set(files) == {*dataset.files, "dataset.json"}
    assert {"README.md", "croissant.json", "manifest.parquet", "rejects.parquet", "report/index.html"} < set(files)
    for path, entry in dataset.files.items():
        assert (len(files[path]), hashlib.sha256(files[path]).hexdigest()) == (entry.bytes, entry.sha256)
    assert dataset.counts.samples == sum(dataset.counts.by_concept.values()) == 21
    assert (dataset.counts.rejected, dataset.counts.surplus) == (3, 0)
    assert dataset.recipe["seed"] == 7
    assert {"samples", "masks", "verdicts", "shards"} == set(dataset.lineage["fingerprints"])
    assert verify(store, "parts") == []


def test_images_that_were_not_needed_are_not_called_rejected(store: Store) -> None:
    counts = publish_build(make_build(store, make_recipe(), {"gear": 20}, rows=20)).counts
    assert (counts.samples, counts.rejected, counts.surplus) == (16, 2, 2)
    assert "Another 2 were rejected and 2 were not needed" in read_folder(store, "1.0.0")["README.md"].decode()
    assert verify(store, "parts") == []


def test_tables_follow_their_schemas_and_the_order_of_the_shards(store: Store) -> None:
    publish_build(make_build(store, make_recipe(sharding={"max_samples": 4}), COUNTS))
    folder = Path(store.path("datasets/parts/1.0.0"))
    manifest, rejects = pq.ParquetFile(folder / "manifest.parquet"), pq.ParquetFile(folder / "rejects.parquet")
    assert manifest.schema_arrow.equals(MANIFEST)
    assert rejects.schema_arrow.equals(REJECTS)
    shards = manifest.read(columns=["shard"])["shard"].to_pylist()
    assert shards == sorted(shards)
    assert manifest.num_row_groups == len(set(shards))
    rows = rejects.read().to_pylist()
    assert {(row["reason"], row["status"], row["error"]) for row in rows} == {("failed", "failed", "blank image")}


def test_two_stores_publish_equal_bytes_but_for_the_date(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        store = Store.open(str(tmp_path / name), create=True)
        publish_build(make_build(store, make_recipe(), COUNTS))
        files = read_folder(store, "1.0.0")
        found.append({path: data for path, data in files.items() if path not in ("dataset.json", "croissant.json")})
    assert found[0] == found[1]


def test_the_task_publishes_with_a_report_and_the_sizes_of_the_rounds(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    shards = [receipt.model_dump(mode="json") for receipt in pack_build(build)]
    publication = publish_version.fn(*build.arguments, shards, [COUNTS])
    assert (publication["version"], publication["is_new"]) == ("1.0.0", True)
    assert load_dataset(store, "parts").lineage["rounds"] == [COUNTS]
    assert b"parts" in read_folder(store, "1.0.0")["report/index.html"]
    assert verify(store, "parts") == []


def test_the_report_counts_every_stage_once_from_its_receipts(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    shards = [receipt.model_dump(mode="json") for receipt in pack_build(build)]
    aims = Receipt(
        stage="aims", fingerprint="0" * 32, part=0, label="aim of gear", uri="artifacts/aims/0/part-00000.parquet",
        sha256="0" * 64, rows=12, bytes=1, timings={"compute": 7200.0},
    )  # fmt: skip
    samples = [partition.samples.model_dump(mode="json") for partition in build.partitions]
    work = [*shards, *samples, aims.model_dump(mode="json")]
    publish_version.fn(*build.arguments, shards, [COUNTS], work)
    page = read_folder(store, "1.0.0")["report/index.html"].decode()
    timings = page[page.index('<section id="timings"') :]
    rows = re.findall(r'<th scope="row">(\w+)</th>.*?<td class="n wide">([\d,]+)</td>', timings)
    assert [name for name, _ in rows] == ["aims", "samples", "masks", "verdicts", "selection", "shards", "All"]
    assert dict(rows)["samples"] == str(len(build.partitions))
    assert re.search(r"of computing</dt><dd>2 h 00 min<", page)


def test_nothing_changed_gives_no_new_version(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    first = publish_build(build)
    again = publish_build(build, {"report/index.html": b"<html>"})
    assert (again.version, again.is_new) == (first.version, False)
    assert list_versions(store, "parts") == ["1.0.0"]
    assert store.names("datasets/parts") == ["1.0.0"]


@pytest.mark.parametrize(
    ("changes", "counts", "version", "difference"),
    [
        ({"sharding": {"max_samples": 5}}, COUNTS, "1.0.1", (0, 0, 0)),
        ({"description": "Other words."}, COUNTS, "1.0.1", (0, 0, 0)),
        ({}, {"gear": 24, "hook": 8}, "1.1.0", (7, 0, 0)),
        ({}, {"gear": 16}, "2.0.0", (0, 7, 0)),
        ({"sharding": {"image_format": "jpg"}}, COUNTS, "2.0.0", (0, 0, 21)),
    ],
    ids=["repacked", "described anew", "added", "removed", "edited"],
)
def test_the_number_follows_the_rows(
    store: Store, changes: dict[str, object], counts: dict[str, int], version: str, difference: tuple[int, int, int]
) -> None:
    publish_build(make_build(store, make_recipe(), COUNTS))
    publication = publish_build(make_build(store, make_recipe(**changes), counts))
    found = publication.changes
    assert (publication.version, found.previous) == (version, "1.0.0")
    assert (found.added, found.removed, found.changed) == difference


def test_an_older_version_stays_as_it_was(store: Store) -> None:
    publish_build(make_build(store, make_recipe(), COUNTS))
    before = read_folder(store, "1.0.0")
    publish_build(make_build(store, make_recipe(), {"gear": 24, "hook": 8}))
    assert read_folder(store, "1.0.0") == before
    assert list_versions(store, "parts") == ["1.0.0", "1.1.0"]
    assert verify(store, "parts", "1.0.0") == verify(store, "parts", "1.1.0") == []


def test_two_publishers_get_two_versions(store: Store) -> None:
    first = make_build(store, make_recipe(), COUNTS)
    second = make_build(store, make_recipe(), {"gear": 24, "hook": 8})
    seen = []

    def interrupt(folder: str, version: str) -> dict[str, bytes]:
        seen.append(version)
        if len(seen) == 1:
            publish_build(first)
        return {"report/index.html": version.encode()}

    publication = publish_build(second, interrupt)
    assert seen == ["1.0.0", "1.1.0"]
    assert (publication.version, publication.changes.previous) == ("1.1.0", "1.0.0")
    assert read_folder(store, "1.1.0")["report/index.html"] == b"1.1.0"
    assert verify(store, "parts") == []


def test_extra_files_are_made_from_the_staged_version(store: Store) -> None:
    def count_rows(folder: str, version: str) -> dict[str, bytes]:
        with store.open_read(f"{folder}/manifest.parquet") as file:
            rows = pq.ParquetFile(file).metadata.num_rows
        return {"report/index.html": f"{version}: {rows}".encode()}

    publish_build(make_build(store, make_recipe(), COUNTS), count_rows)
    assert read_folder(store, "1.0.0")["report/index.html"] == b"1.0.0: 21"


def test_an_error_on_the_way_leaves_nothing(store: Store) -> None:
    def fail(folder: str, version: str) -> dict[str, bytes]:
        raise RuntimeError("no report")

    with pytest.raises(RuntimeError, match="no report"):
        publish_build(make_build(store, make_recipe(), COUNTS), fail)
    assert store.names("datasets/parts") == []
    assert list_datasets(store) == []


@pytest.mark.slow
def test_a_killed_publisher_leaves_nothing_visible_and_the_next_one_publishes(store: Store) -> None:
    program = (
        "import os, signal, sys\n"
        "from tailforge.catalog.store import Store\n"
        "from tests.support.fabricate import make_build, make_recipe, publish_build\n"
        "store = Store.open(sys.argv[1])\n"
        f"build = make_build(store, make_recipe(), {COUNTS!r})\n"
        "publish_build(build, lambda folder, version: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    result = subprocess.run([sys.executable, "-c", program, store.uri], cwd=ROOT, env={**os.environ})
    assert result.returncode == -9
    assert list_datasets(store) == list_versions(store, "parts") == []
    assert publish_build(make_build(store, make_recipe(), COUNTS)).version == "1.0.0"
    assert verify(store, "parts") == []


def test_nothing_accepted_is_an_error(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    with pytest.raises(QuotaError, match="no image was accepted"):
        publish_version.fn(*build.arguments, [], [])


def test_shards_are_not_copied_where_links_work(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    shards = pack_build(build)
    publish_build(build)
    tar = Path(store.path(shards[0].details["files"]["tar"]["uri"]))
    assert tar.samefile(store.path(f"datasets/parts/1.0.0/shards/{shards[0].details['shard']}"))


def test_dataset_json_is_plain_json_without_paths_of_the_machine(store: Store) -> None:
    publish_build(make_build(store, make_recipe(), COUNTS))
    text = store.read("datasets/parts/1.0.0/dataset.json").decode()
    assert store.uri not in text
    assert json.loads(text)["changes"] == {"added": 21, "changed": 0, "previous": None, "removed": 0}


def test_a_damaged_shard_is_not_published_but_made_anew(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    tar = Path(store.path(pack_build(build)[0].details["files"]["tar"]["uri"]))
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    with pytest.raises(DamagedArtifactError, match="is damaged"):
        publish_build(build)
    assert list_versions(store, "parts") == []
    assert publish_build(build).version == "1.0.0"
    assert verify(store, "parts") == []


def test_a_publisher_whose_clock_is_ahead_takes_nothing_from_another(store: Store) -> None:
    def publish_the_other(folder: str, version: str) -> dict[str, bytes]:
        if not list_versions(store, "parts"):
            with time_machine.travel(datetime.now(UTC) + timedelta(days=2)):
                publish_build(make_build(store, make_recipe(), {"gear": 16}))
        return {}

    publish_build(make_build(store, make_recipe(), COUNTS), publish_the_other)
    assert list_versions(store, "parts") == ["1.0.0", "1.1.0"]
    assert [verify(store, "parts", version) for version in list_versions(store, "parts")] == [[], []]
