"""Builds with a generator whose folder tells how it was trained."""

import json
from pathlib import Path

import pytest

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tests.flows.conftest import Command, build, rows_of
from tests.support.training_records import write_record

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


def test_a_version_tells_how_its_generator_was_trained(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    before = write_record(tiny_recipe.parent / "generator", name="before")
    base = {"model": "before", "digest": "e" * 64, "training": before}
    record = write_record(tiny_recipe.parent / "generator", name="tiny", base=base)
    made = build(command, tiny_recipe, tmp_path / "store")
    store = Store.open(str(tmp_path / "store"))
    dataset = load_dataset(store, "tiny")
    assert dataset.generator_training is not None
    assert dataset.generator_training.model_dump(mode="json") == record
    assert verify(store, "tiny") == []
    card, report = ((Path(made["uri"]) / name).read_text() for name in ("README.md", "report/index.html"))
    digest = dataset.lineage["models"]["generator"]["digest"]
    assert f"generator: sha256 `{digest}`" in card
    for told in ("tiny was adapted from before", "before was adapted from catalog:workshop"):
        assert told in card
        assert told in report
    assert {json.loads(row["provenance"])["generator"]["digest"] for row in rows_of(made)} == {digest}
    again = build(command, tiny_recipe, tmp_path / "store")
    assert (again["new"], again["version"]) == (False, "1.0.0")


def test_a_record_decides_no_image(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    build(command, tiny_recipe, tmp_path / "store")
    write_record(tiny_recipe.parent / "generator")
    assert build(command, tiny_recipe, tmp_path / "store")["work"] == {}


def test_a_broken_record_is_refused_before_any_work(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    (tiny_recipe.parent / "generator/training.json").write_text("{")
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "store")
    assert code == 2
    assert "generator/training.json is not JSON" in err
    assert "remove the file" in err
    assert not list((tmp_path / "store").glob("artifacts/*"))
