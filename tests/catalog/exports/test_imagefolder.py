"""Folders of classes: read back by the reader of labelled images and by datasets, with names that any disk takes."""

import json
from pathlib import Path

import datasets
import pytest
from datasets import load_dataset

from tailforge import open_dataset
from tailforge.catalog.exports.export import export_version
from tailforge.catalog.exports.imagefolder import name_folders
from tailforge.catalog.images.reader import open_images
from tailforge.catalog.store import Store


@pytest.fixture(scope="module")
def exported(published: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagefolder") / "parts"
    export_version(published, "parts", "latest", "imagefolder", folder)
    return folder


def test_images_are_in_the_folder_of_their_class(published: Store, exported: Path) -> None:
    for split in ("train", "test"):
        lines = (exported / split / "metadata.jsonl").read_text().splitlines()
        told = {each["file_name"]: each for each in map(json.loads, lines)}
        raw = open_dataset(published.uri, split=split, name="parts", decode=False)
        assert len(told) == len(raw) == len(list((exported / split).glob("*/*.png")))
        for sample in raw:
            label = raw.classes[sample["cls"]]
            name = f"{label}/{sample['key']}.png"
            assert (exported / split / name).read_bytes() == sample["image"]
            assert told[name] == {"file_name": name, "text": sample["caption"], "label": label}


def test_the_reader_of_images_reads_it(published: Store, exported: Path) -> None:
    train = open_dataset(published.uri, name="parts")
    expected = {sample["key"]: (train.classes[sample["cls"]], sample["caption"]) for sample in train}
    images = open_images(exported).of_split("train")
    assert {Path(each.id).stem: (each.label, each.caption) for each in images} == expected
    assert len(images) == 42


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_datasets_reads_it(published: Store, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    found = load_dataset("imagefolder", data_dir=str(exported))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 42, "test": 11}
    train = open_dataset(published.uri, name="parts")
    expected = sorted((sample["caption"], train.classes[sample["cls"]]) for sample in train)
    assert sorted((row["text"], row["label"]) for row in found["train"]) == expected
    assert found["train"][0]["image"].size == (16, 16)


@pytest.mark.parametrize(
    ("classes", "folders"),
    [
        (("gear", "hex nut", "clé à molette"), ["gear", "hex nut", "clé à molette"]),
        (("nut/bolt", "nut:bolt"), ["nut_bolt", "nut_bolt-1"]),
        ((".hidden", "..", "end.", "con", "a\tb"), ["_hidden", "__", "end_", "con_", "a_b"]),
        (("Ring", "ring", "ring-1"), ["Ring", "ring-1", "ring-1-2"]),
        (("metadata.jsonl",), ["metadata.jsonl-0"]),
        (("é" * 150,), ["é" * 100]),
    ],
)
def test_every_class_has_a_folder_that_any_disk_takes(classes: tuple[str, ...], folders: list[str]) -> None:
    assert name_folders(classes) == folders
