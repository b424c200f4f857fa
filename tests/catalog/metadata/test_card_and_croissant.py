"""README.md and croissant.json: valid for the tools that read them, true to the dataset."""

import gc
import json
from itertools import islice
from pathlib import Path
from typing import Any

import mlcroissant
import pytest
import yaml

from tailforge.catalog.metadata.card import write_card
from tailforge.catalog.metadata.croissant import describe_croissant
from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.documents.worth import Worth
from tests.support.evaluated import make_record

# What mlcroissant 1.1.1 draws from rdflib and pandas of today.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph:DeprecationWarning", "ignore:The inplace keyword")


@pytest.fixture
def croissant(folder: Path) -> Any:
    return mlcroissant.Dataset(str(folder / "croissant.json"))


def records(croissant: Any, name: str, count: int) -> list[dict[str, Any]]:
    return list(islice(croissant.records(name), count))


def test_the_front_matter_is_what_the_hub_reads(folder: Path) -> None:
    _, header, body = (folder / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(header)
    assert front["license"] == "cc-by-4.0"
    assert "synthetic" in front["tags"]
    assert front["size_categories"] == ["n<1K"]
    assert [entry["split"] for entry in front["configs"][0]["data_files"]] == ["test", "train"]
    for entry in front["configs"][0]["data_files"]:
        assert list(folder.glob(entry["path"]))
    assert "| 0 | gear | 26 |" in body
    assert "trainedAlgorithmicMedia" in body


def test_croissant_is_valid_and_true(croissant: Any, published: Store, folder: Path) -> None:
    assert not croissant.metadata.ctx.issues.errors
    dataset, document = load_dataset(published, "parts"), json.loads((folder / "croissant.json").read_text())
    versions = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    assert document["conformsTo"] == versions
    assert document["version"] == dataset.version
    files = {file["contentUrl"]: file["sha256"] for file in document["distribution"] if "contentUrl" in file}
    assert files == {
        path: entry.sha256
        for path, entry in dataset.files.items()
        if path.startswith("shards/") or path == "manifest.parquet"
    }


def test_records_of_the_manifest_iterate(croissant: Any) -> None:
    found = records(croissant, "samples", 100)
    assert len(found) == 53
    assert found[0]["samples/concept"] in (b"gear", b"hook", b"ring")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_images_and_masks_iterate_with_their_samples(croissant: Any) -> None:
    samples = {record["samples/sample_id"] for record in records(croissant, "samples", 100)}
    for name, mode in (("images", "RGB"), ("masks", "P")):
        found = records(croissant, name, 5)
        assert {record[f"{name}/content"].mode for record in found} == {mode}
        assert {record[f"{name}/sample_id"] for record in found} <= samples
    gc.collect()  # mlcroissant leaves the extracted files to the garbage collector


def test_the_legend_of_classes_is_inside(croissant: Any) -> None:
    found = records(croissant, "classes", 10)
    assert [record["classes/name"] for record in found] == ["gear", "hook", "ring"]


def test_splits_say_what_they_mean(croissant: Any) -> None:
    found = {record["splits/name"]: record["splits/url"] for record in records(croissant, "splits", 10)}
    assert {name: str(url).rpartition(":")[2] for name, url in found.items()} == {
        "test": "TestSplit",
        "train": "TrainingSplit",
    }
    assert {record["samples/split"] for record in records(croissant, "samples", 100)} <= {b"test", b"train"}


@pytest.mark.parametrize(
    ("engine", "source"),
    [("plain", "No image was collected"), ("inpaint", "A model drew regions"), ("cut_paste", "without a model")],
)
def test_the_source_of_the_images_is_told(published: Store, engine: str, source: str) -> None:
    dataset = load_dataset(published, "parts")
    own = dataset.model_copy(update={"recipe": {**dataset.recipe, "engine": {"kind": engine}}})
    document = describe_croissant(own)
    assert document["rai:hasSyntheticData"] is True
    assert source in document["rai:dataCollection"]
    assert document["rai:machineAnnotationTools"] == ["Tailforge, cross_attention"]


def test_worth_is_told_once_it_was_measured(published: Store, tmp_path: Path) -> None:
    dataset, worth = load_dataset(published, "parts"), Worth.read(make_record())
    assert "tailforge evaluate parts@1.0.0 --real IMAGES" in write_card(dataset)
    assert "Not evaluated" in describe_croissant(dataset)["subjectOf"]["abstract"]

    card = write_card(dataset, worth)
    assert "Not evaluated" not in card
    assert "The version helps: recall of rare classes +20.0 points" in card
    assert "| hook | 5 | 30.0 (28.0 to 32.0) % | 50.0 (48.0 to 52.0) % |" in card

    document = describe_croissant(dataset, worth)
    gain, _ = document["subjectOf"]["mentions"]
    assert (gain["value"], gain["minValue"], gain["maxValue"]) == (20.0, 15.0, 25.0)
    (tmp_path / "croissant.json").write_text(json.dumps(document))
    assert not mlcroissant.Dataset(str(tmp_path / "croissant.json")).metadata.ctx.issues.errors


def test_a_version_without_gates_says_that_it_was_not_checked(published: Store) -> None:
    dataset = load_dataset(published, "parts")
    bare = dataset.model_copy(update={"recipe": {**dataset.recipe, "quality": {"gates": {}}}})
    for worth in (None, Worth.read(make_record())):
        assert "Not checked: no gate looked at the images" in write_card(bare, worth)
        assert "Not checked" not in write_card(dataset, worth)
        assert "Not checked" in describe_croissant(bare, worth)["subjectOf"]["abstract"]


def test_a_licence_without_identifier_is_told_by_its_name(published: Store, tmp_path: Path) -> None:
    dataset = load_dataset(published, "parts")
    for licence, written in (({"name": "Ours"}, "Ours"), ({"name": "Ours", "url": "https://a.b/c"}, "https://a.b/c")):
        own = dataset.model_copy(update={"recipe": dict(dataset.recipe) | {"license": licence}})
        front = yaml.safe_load(write_card(own).split("---\n", 2)[1])
        assert (front["license"], front["license_name"]) == ("other", "ours")
        (tmp_path / "croissant.json").write_text(json.dumps(describe_croissant(own)))
        described = mlcroissant.Dataset(str(tmp_path / "croissant.json"))
        assert not described.metadata.ctx.issues.errors
        assert described.metadata.license == [written]
