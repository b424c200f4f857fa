"""The whole chain on a tiny generator: what is published, what a change makes again, and what a failure leaves."""

import errno
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest

from tailforge import open_dataset
from tailforge.catalog.sources import models
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.schemas.tables import MANIFEST
from tests.flows.conftest import Command
from tests.flows.conftest import build as build_version
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def build(command: Command, tmp_path: Path) -> Any:
    """Build a recipe in this test's store; returns what `--json` printed."""

    def run(recipe: Path, *words: str) -> dict[str, Any]:
        return build_version(command, recipe, tmp_path / "store", *words)

    return run


def receipts(store: Path) -> Counter[str]:
    """Finished partitions by stage."""
    return Counter(path.parts[-3] for path in store.glob("artifacts/*/*/part-*.json"))


def test_a_recipe_becomes_a_published_version(build: Any, tiny_recipe: Path, tmp_path: Path) -> None:
    made = build(tiny_recipe)
    assert (made["name"], made["version"], made["new"], made["samples"]) == ("tiny", "1.0.0", True, 15)
    assert verify(Store.open(str(tmp_path / "store")), "tiny") == []
    manifest = pq.read_table(Path(made["uri"]) / "manifest.parquet")
    assert manifest.schema.names == MANIFEST.names
    assert Counter(manifest["concept"].to_pylist()) == {"gear": 9, "bench": 6}
    assert "<html" in Path(made["report"]).read_text()
    keys = [s["key"] for split in ("train", "test") for s in open_dataset(str(Path(made["uri"]).parent), split=split)]
    assert sorted(keys) == sorted(manifest["sample_id"].to_pylist())


def test_a_build_digests_each_model_once(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    """A generator has gigabytes: the command prepares the build, and the flow takes what was prepared."""
    with patch("tailforge.catalog.sources.models.digest_model", wraps=models.digest_model) as digested:
        assert command("build", tiny_recipe, "--store", tmp_path / "store")[0] == 0
    assert digested.call_count == 1


def test_a_second_build_does_no_work_and_says_so(
    build: Any, command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    build(tiny_recipe)
    before = receipts(tmp_path / "store")
    made = build(tiny_recipe)
    assert (made["new"], made["version"], made["work"], made["compute_seconds"]) == (False, "1.0.0", {}, 0)
    assert receipts(tmp_path / "store") == before
    _, out, _ = command("build", tiny_recipe, "--store", tmp_path / "store")
    assert "unchanged" in out
    assert "nothing: all was finished" in out


def test_a_changed_threshold_makes_no_image_again(build: Any, tiny_recipe: Path) -> None:
    build(tiny_recipe)
    made = build(tiny_recipe, "--set", "quality.gates.contrast.min=0.0001", "--set", "quality.max_rounds=1")
    assert made["work"].get("samples", 0) == made["work"].get("masks", 0) == 0
    assert made["work"]["verdicts"] == 6
    assert made["version"] == "1.0.1"


def test_another_way_to_cut_masks_makes_no_image_again(build: Any, tiny_recipe: Path) -> None:
    first = build(tiny_recipe)
    changed = ["annotation.threshold=0.4", 'annotation.things=["concept", "place"]', "annotation.ignore_band=0.1"]
    made = build(tiny_recipe, *(word for change in changed for word in ("--set", change)))
    assert made["work"].get("samples", 0) == made["work"].get("prompts", 0) == 0
    assert made["work"]["masks"] == first["work"]["masks"]
    categories = json.loads((Path(made["uri"]) / "dataset.json").read_text())["categories"]
    assert [(each["name"], each["thing"]) for each in categories] == [
        ("gear", True),
        ("bench", True),  # also a value of the slot
        ("wooden bench", True),
        ("photo", True),
    ]
    manifest = pq.read_table(Path(made["uri"]) / "manifest.parquet", columns=["instances"])["instances"].to_pylist()
    assert {each["slot"] for row in manifest for each in row} == {"concept", "place"}


def test_a_changed_template_makes_only_its_own_images_again(build: Any, tiny_recipe: Path) -> None:
    first = build(tiny_recipe)
    changed = ["a photo of a {concept} on a {place}", "one {concept} on a {place}"]
    made = build(tiny_recipe, "--set", f"prompts.templates={json.dumps(changed)}")
    assert made["work"]["samples"] == first["work"]["samples"] / 2
    assert made["finished_before"]["samples"] == first["work"]["samples"] / 2
    assert made["version"] == "2.0.0"


@pytest.mark.parametrize("concept", ["gear", "bench"])
def test_more_images_are_an_addition(build: Any, tiny_recipe: Path, concept: str) -> None:
    first = build(tiny_recipe)
    made = build(tiny_recipe, "--set", f"concepts.{concept}.requested=23")
    assert (made["version"], made["shortfall"]) == ("1.1.0", {})
    assert made["finished_before"]["samples"] == first["work"]["samples"]


def test_lost_and_damaged_files_of_a_version_are_mended(
    build: Any, command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    made = build(tiny_recipe)
    version = Path(made["uri"])
    (version / "manifest.parquet").write_bytes(b"damaged")
    shard = version / "shards" / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    with shard.open("rb+") as out:  # in place: the artifact, a hard link, is damaged too
        out.write(data)
    words = ["--store", tmp_path / "store"]
    assert command("verify", "tiny", *words)[0] == 2
    assert command("rerun", tiny_recipe, "--stage", "shards", *words)[0] == 0
    assert command("verify", "tiny", *words)[0] == 0


def test_a_folder_in_the_way_of_a_version_is_named(
    build: Any, command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "store/datasets/tiny/1.0.0/shards").mkdir(parents=True)
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "store")
    assert code == 2
    assert "1.0.0 is in the way" in err


def test_a_changed_generator_is_noticed(build: Any, tiny_recipe: Path) -> None:
    first = build(tiny_recipe)
    config = tiny_recipe.parent / "generator" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"v_prediction"', '"epsilon"'))
    assert build(tiny_recipe)["work"]["samples"] == first["work"]["samples"]


def test_rejected_images_are_replaced_in_further_rounds(build: Any, tiny_recipe: Path) -> None:
    made = build(tiny_recipe, "--set", "quality.gates.contrast={min_quantile: 0.5}", "--set", "quality.max_rounds=5")
    assert made["rounds"] > 1
    assert made["shortfall"] == {}
    rejects = pq.read_table(Path(made["uri"]) / "rejects.parquet")
    assert "contrast_low" in rejects["reason"].to_pylist()


def test_a_shortfall_is_reported_by_name(build: Any, command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    impossible = ["--set", "quality.gates.contrast={min: 0.9}", "--set", "quality.max_rounds=1"]
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "store", *impossible)
    assert code == 1
    assert "no image was accepted" in err
    fail = [
        "--set",
        "quality.on_shortfall=fail",
        "--set",
        "quality.max_rounds=1",
        "--set",
        "quality.gates.contrast={max_quantile: 0.3}",
    ]
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "store", *fail)
    assert code == 1
    assert "gear lacks" in err
    assert not (tmp_path / "store" / "datasets" / "tiny" / "1.0.0").exists()


def test_two_stores_get_equal_bytes(build: Any, command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    build(tiny_recipe)
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "other", "--workers", "1")
    assert code == 0, err
    for name in ("shards/train-000000.tar", "shards/test-000000.tar", "manifest.parquet", "rejects.parquet"):
        one, two = (tmp_path / store / "datasets/tiny/1.0.0" / name for store in ("store", "other"))
        assert one.read_bytes() == two.read_bytes(), name


def test_one_sample_is_made_again_bit_equal(build: Any, command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    augmentation = {"transforms": [{"name": "HorizontalFlip", "parameters": {"p": 0.5}}], "copies": 1}
    prompts = {  # neither names nor values in alphabetic order: the published recipe must keep theirs
        "templates": ["a photo of a {place} {concept} in {material}"],
        "attributes": {"place": ["wooden", "bench"], "material": ["photo", "on"]},
    }
    recipe = write_recipe(tiny_recipe.parent, augmentation=augmentation, prompts=prompts)
    made = build(recipe)
    rows = pq.read_table(Path(made["uri"]) / "manifest.parquet").to_pylist()
    original = next(row for row in rows if row["parent_id"] is None)
    copy = next(row for row in rows if row["parent_id"] is not None)
    assert len(rows) == 30
    for row in (original, copy):
        words = ["--dataset", "tiny", "--store", tmp_path / "store", "--folder", recipe.parent, "--json"]
        code, out, err = command("regenerate", row["sample_id"], *words, "--out", tmp_path / "again.png")
        assert code == 0, err
        assert json.loads(out)["equal"] is True
    code, _, err = command("regenerate", original["sample_id"], *words, "--out", tmp_path)
    assert code == 2
    assert f"--out {tmp_path}: this is a folder" in err


def test_rerunning_a_stage_keeps_what_is_upstream(
    build: Any, command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    build(tiny_recipe)
    words = ["--stage", "masks", "--store", tmp_path / "store", "--json"]
    code, out, err = command("rerun", tiny_recipe, *words)
    assert code == 0, err
    assert json.loads(out)["work"] == {"masks": 6}
    assert json.loads(out)["version"] == "1.0.0"


def test_plan_and_status_tell_what_is_finished(build: Any, command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    words = [tiny_recipe, "--store", tmp_path / "store", "--json"]
    fresh = json.loads(command("plan", *words)[1])
    assert fresh["complete"] is False
    counted = {"stage": "prompts", "finished": 0, "missing": 2, "missing_rows": 0}
    assert fresh["stages"][0].items() >= counted.items()
    build(tiny_recipe)
    assert json.loads(command("plan", *words)[1])["complete"] is True
    more = json.loads(command("plan", *words, "--set", "concepts.gear.requested=40")[1])
    samples = next(stage for stage in more["stages"] if stage["stage"] == "samples")
    assert samples["finished"] == 6
    assert samples["missing"] > 0
    assert 0 < samples["seconds"]["low"] <= samples["seconds"]["value"] <= samples["seconds"]["high"]
    status = json.loads(command("status", *words)[1])
    assert status["published"] == "1.0.0"
    assert status["outcomes"]["samples status:ok"] == 24


def test_a_full_disk_stops_the_build_and_keeps_what_was_made(
    build: Any, command: Command, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 60_000  # bytes: a few partitions fit
    real = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal room
        room -= os.fstat(descriptor).st_size
        if room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        code, _, err = command("build", tiny_recipe, "--store", tmp_path / "store")
    assert code == 1
    assert "the disk is full" in err
    assert "Traceback" not in err
    assert not list((tmp_path / "store").rglob("dataset.json"))
    kept = receipts(tmp_path / "store")
    assert kept["prompts"] == 2
    made = build(tiny_recipe)
    assert made["finished_before"]["prompts"] == 2
    assert made["version"] == "1.0.0"


def test_listing_showing_verifying_and_damage(build: Any, command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    made = build(tiny_recipe)
    store = ["--store", tmp_path / "store"]
    assert json.loads(command("list", *store, "--json")[1])[0]["dataset"] == "tiny"
    assert json.loads(command("show", "tiny", *store, "--json")[1])["counts"]["samples"] == 15
    assert json.loads(command("verify", "tiny@1.0.0", *store, "--json")[1])["samples"] == 15
    assert Path(command("report", "tiny", *store)[1].strip()).is_file()
    build(tiny_recipe, "--set", "concepts.bench.requested=8")
    found = json.loads(command("diff", "tiny@1.0.0", "tiny@1.1.0", *store, "--json")[1])
    assert (found["added"], found["removed"], found["changed"]) == (2, 0, 0)
    told = json.loads(command("report", "tiny", *store, "--json")[1])["summary"]
    assert told["changes"]["added"] == {"bench": 2}
    assert [(each["version"], each["seconds"] > 0) for each in told["history"]] == [("1.0.0", True), ("1.1.0", True)]
    assert 0 < told["costs"]["new_seconds"] < told["costs"]["seconds"]
    tar = Path(made["uri"]) / "shards" / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.unlink()
    tar.write_bytes(data)
    code, _, err = command("verify", "tiny@1.0.0", *store)
    assert code == 2
    assert "train-000000.tar" in err
