"""Sharding of a whole build: what is in the tars, what a rerun does, what a change touches."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tailforge.catalog.store import Store
from tailforge.schemas.errors import DamagedArtifactError
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.tables import MANIFEST
from tailforge.tasks.artifacts.contract import find_receipt, read_table
from tailforge.tasks.methods.packing.shards import RECORD
from tailforge.tasks.stages import shard_plan
from tailforge.tasks.stages.shards import STAGE, list_shard_jobs, locate
from tests.support.fabricate import Build, make_build, make_recipe, pack_build, plan_build
from tests.support.stages import run

COUNTS = {"gear": 30, "hook": 10, "ring": 20}
AUGMENTED = {"transforms": [{"name": "Blur"}]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"), create=True)


def read_tars(build: Build, shards: list[Receipt]) -> dict[str, dict[str, bytes]]:
    """Fields of every sample, by sample."""
    found: dict[str, dict[str, bytes]] = {}
    for shard in shards:
        with tarfile.open(fileobj=io.BytesIO(build.store.read(shard.details["files"]["tar"]["uri"]))) as tar:
            for member in tar:
                key, _, field = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                found.setdefault(key, {})[field] = file.read()
    return found


def read_manifest(build: Build, shards: list[Receipt]) -> list[dict[str, Any]]:
    return [row for shard in shards for row in read_table(build.store, shard).to_pylist()]


def accepted(build: Build) -> set[str]:
    return {row["sample_id"] for row in read_table(build.store, build.selection).to_pylist() if row["accepted"]}


def test_every_accepted_sample_is_in_one_shard_with_all_its_fields(store: Store) -> None:
    build = make_build(store, make_recipe(sharding={"max_samples": 20}), COUNTS)
    shards = pack_build(build)
    samples, rows = read_tars(build, shards), read_manifest(build, shards)
    assert [shard.details["shard"] for shard in shards] == [
        "test-000000.tar",
        "train-000000.tar",
        "train-000001.tar",
        "train-000002.tar",
    ]
    assert set(samples) == accepted(build) == {row["sample_id"] for row in rows}
    assert len(rows) == len(samples)
    assert {tuple(fields) for fields in samples.values()} == {("cls", "json", "png", "seg.png", "txt")}
    for row in rows:
        fields = samples[row["sample_id"]]
        assert fields["txt"].decode() == row["caption"]
        assert int(fields["cls"]) == row["class_id"]
        assert json.loads(fields["json"])["sample_id"] == row["sample_id"]


def test_the_manifest_says_where_every_member_lies(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    for shard in pack_build(build):
        tar = shard.details["files"]["tar"]
        data = store.read(tar["uri"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (tar["bytes"], tar["sha256"])
        table = read_table(store, shard)
        assert table.schema.equals(MANIFEST)
        for member in (member for row in table.to_pylist() for member in row["members"]):
            payload = data[member["offset"] : member["offset"] + member["size"]]
            assert hashlib.sha256(payload).digest() == member["sha256"]


def test_planned_sizes_are_those_of_the_tars(store: Store) -> None:
    build = make_build(store, make_recipe(sharding={"max_bytes": 2**16}), COUNTS, pixels=40)
    jobs = list_shard_jobs(plan_build(build), build.partitions)
    tars = [shard.details["files"]["tar"]["bytes"] for shard in pack_build(build)]
    assert len(jobs) > 3
    assert max(tars) <= 2**16
    assert [-(-(job.tar_bytes + 1024) // RECORD) * RECORD for job in jobs] == tars


def test_two_stores_hold_equal_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        build = make_build(Store.open(str(tmp_path / name), create=True), make_recipe(), COUNTS)
        shards = pack_build(build)
        found.append([(s.sha256, s.details["files"]["tar"]["sha256"], s.fingerprint) for s in shards])
    assert found[0] == found[1]


def test_a_second_run_does_nothing_and_needs_no_partition(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    first = pack_build(build)
    for partition in build.partitions:
        store.remove(partition.samples.uri)
    assert pack_build(build) == first


def test_a_lost_tar_is_made_again(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    first = pack_build(build)
    store.remove(first[0].details["files"]["tar"]["uri"])
    again = pack_build(build)
    assert again[0].details == first[0].details
    assert store.exists(first[0].details["files"]["tar"]["uri"])


def test_a_changed_image_touches_its_shards_alone(store: Store) -> None:
    recipe = make_recipe(sharding={"max_samples": 10}, splits={"train": 1.0})
    build = make_build(store, recipe, COUNTS)
    before = pack_build(build)
    victim = read_manifest(build, before)[0]["sample_id"]
    after = pack_build(make_build(store, recipe, COUNTS, changed=victim))
    same = [a.fingerprint == b.fingerprint for a, b in zip(before, after, strict=True)]
    assert not same[0]
    assert any(same)


def test_locate_knows_the_addresses_of_finished_work(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    plan = find_receipt(store, shard_plan.locate(build.context, build.selection, build.partitions))
    assert plan is None
    pack_build(build)
    plan = find_receipt(store, shard_plan.locate(build.context, build.selection, build.partitions))
    assert plan is not None
    jobs = list_shard_jobs(plan, build.partitions)
    assert all(find_receipt(store, locate(build.context, job)) for job in jobs)


def test_augmentation_in_place_replaces_image_and_mask(store: Store) -> None:
    build = make_build(store, make_recipe(augmentation=AUGMENTED), COUNTS)
    shards = pack_build(build)
    samples, rows = read_tars(build, shards), read_manifest(build, shards)
    assert set(samples) == accepted(build)
    assert all(row["parent_id"] is None and row["augmentation"] == '{"copy":0}' for row in rows)
    for fields in samples.values():
        assert np.unique(np.asarray(Image.open(io.BytesIO(fields["png"])))).tolist() == [10]


def test_copies_stand_beside_their_originals_in_the_same_split(store: Store) -> None:
    build = make_build(store, make_recipe(augmentation={**AUGMENTED, "copies": 2}), COUNTS)
    rows = read_manifest(build, pack_build(build))
    originals = {row["sample_id"]: row for row in rows if row["parent_id"] is None}
    copies = [row for row in rows if row["parent_id"] is not None]
    assert set(originals) == accepted(build)
    assert len(copies) == 2 * len(originals)
    assert len({row["sample_id"] for row in rows}) == len(rows)
    assert all(row["split"] == originals[row["parent_id"]]["split"] for row in copies)
    assert {row["mask_area"] for row in copies} == {0.25}


def test_soft_maps_and_jpeg_where_asked(store: Store) -> None:
    build = make_build(store, make_recipe(sharding={"attention": True, "image_format": "jpg"}), COUNTS)
    samples = read_tars(build, pack_build(build))
    fields = next(iter(samples.values()))
    assert list(fields) == ["attn.npy", "cls", "jpg", "json", "seg.png", "txt"]
    assert np.load(io.BytesIO(fields["attn.npy"])).shape == (1, 4, 4)
    assert Image.open(io.BytesIO(fields["jpg"])).format == "JPEG"


def test_a_failed_write_leaves_no_shard(store: Store) -> None:
    build = make_build(store, make_recipe(), COUNTS)
    plan = plan_build(build)
    job = list_shard_jobs(plan, build.partitions)[0]
    store.remove(build.partitions[job.plan.details["shards"][0]["partitions"][-1]].masks.uri)
    with pytest.raises(DamagedArtifactError, match="is damaged"):
        run(STAGE, store.uri, build.context, job)
    address = locate(build.context, job)
    assert store.names(address.uri.rsplit("/", 1)[0]) == []
