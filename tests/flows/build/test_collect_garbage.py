"""What gc removes and keeps, through the command: old work of no version goes, and builds and versions still hold."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import Command, build, start_from_build

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


def age(folder: Path, days: float) -> None:
    """Let everything in a folder look as if it had been written days ago."""
    moment = time.time() - days * 24 * 3600
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (moment, moment))


def test_old_work_of_no_version_goes(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    build(command, tiny_recipe, store)
    assert (
        command("rerun", tiny_recipe, "--stage", "masks", "--store", store, "--set", "annotation.threshold=0.4")[0] == 0
    )
    abandoned = store / "datasets/tiny/.tmp-killed"
    abandoned.mkdir()
    (abandoned / "manifest.parquet").write_bytes(b"half")
    orphan = store / "artifacts/masks" / ("0" * 32)
    orphan.mkdir()
    (orphan / "part-00000.parquet").write_bytes(b"old")

    def collect(*words: str) -> dict[str, Any]:
        code, out, err = command("gc", "--store", store, "--json", *words)
        assert code == 0, err
        return json.loads(out)  # type: ignore[no-any-return]

    assert collect("--delete")["removed"] == []  # all is young
    age(store, 8)
    found = collect()
    gone = {each["path"]: each["bytes"] for each in found["removed"]}
    assert gone["datasets/tiny/.tmp-killed"] == 4
    assert gone[f"artifacts/masks/{'0' * 32}"] == 3
    assert {each["stage"] for each in found["removed"]} == {"masks", "selection", "shard_plan", "staging"}
    assert "a version is made of it" in found["kept"]
    assert orphan.exists()
    assert "nothing was removed" in command("gc", "--store", store)[1]
    assert {each["stage"] for each in collect("--keep", str(tiny_recipe))["removed"]} >= {"masks", "staging"}
    assert collect("--delete")["removed"] == found["removed"]
    assert not any((store / path).exists() for path in gone)
    assert command("verify", "tiny@1.0.0", "--store", store)[0] == 0
    made = build(command, tiny_recipe, store)
    assert "samples" not in made["work"]
    assert made["work"]["selection"] == made["rounds"]


def test_a_rebuild_makes_again_what_went_with_its_version(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = start_from_build(command, tiny_recipe, store)
    manifest = (Path(first["uri"]) / "manifest.parquet").read_bytes()
    shutil.rmtree(store / "datasets/tiny")
    age(store, 8)
    assert command("gc", "--store", store, "--delete")[0] == 0
    assert not list(store.glob("artifacts/*/*"))
    again = build(command, tiny_recipe, store)
    assert (again["version"], again["work"]) == ("1.0.0", first["work"])
    assert (Path(again["uri"]) / "manifest.parquet").read_bytes() == manifest


def test_diff_lists_rows_and_reports_are_named_in_json(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    store = ["--store", tmp_path / "store"]
    start_from_build(command, tiny_recipe, tmp_path / "store")
    build(command, tiny_recipe, tmp_path / "store", "--set", "annotation.threshold=0.4")
    found = json.loads(command("diff", "tiny@1.0.0", "tiny", *store, "--json")[1])
    assert len(found["rows"]) == found["changed"] + found["added"] + found["removed"] > 0
    assert all(row["fields"] for row in found["rows"] if row["change"] == "changed")
    out = command("diff", "tiny@1.0.0", "tiny", *store, "--rows")[1]
    assert found["rows"][0]["sample_id"] in out
    assert "{" not in out
    assert Path(json.loads(command("report", "tiny", *store, "--json")[1])["report"]).is_file()
