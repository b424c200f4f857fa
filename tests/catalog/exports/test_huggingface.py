"""The Hugging Face layout, read by the real `datasets` and compared with the version."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from tailforge.catalog.exports import huggingface
from tailforge.catalog.exports.export import export_version
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.errors import UserError, VerificationError
from tests.support.drawn_version import CLASSES, NAME, draw_masks, write_version
from tests.support.fabricate import make_build, make_recipe, publish_build

COUNTS = {"test": 11, "train": 42}
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # datasets leaves files to the garbage collector


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with dataset `parts`: four shards of train, and JPEGs."""
    store = Store.open(str(tmp_path_factory.mktemp("parts")), create=True)
    recipe = make_recipe(sharding={"max_samples": 12, "image_format": "jpg"})
    publish_build(make_build(store, recipe, {"gear": 30, "hook": 10, "ring": 20}), {"report/index.html": b"<html>"})
    return store


@pytest.fixture(scope="module")
def folder(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "hub"
    export_version(store, "parts", "latest", "huggingface", folder)
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def read_version(store: Store, split: str) -> dict[str, Any]:
    """Samples of the version by id."""
    return {
        sample["key"]: sample for sample in open_dataset(store.uri, split=split, name="parts", rank=0, world_size=1)
    }


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
@pytest.mark.parametrize("split", COUNTS)
def test_pictures_load_as_the_version_has_them(store: Store, folder: Path, split: str, streaming: bool) -> None:
    loaded = datasets.load_dataset(str(folder), split=split, streaming=streaming)
    assert isinstance(loaded.features["image"], datasets.Image)
    assert isinstance(loaded.features["mask"], datasets.Image)
    assert loaded.features["label"].names == ["gear", "hook", "ring"]
    rows, published = list(loaded), read_version(store, split)
    assert [row["sample_id"] for row in rows] == list(published)
    for row in rows:
        sample = published[row["sample_id"]]
        assert (row["label"], row["caption"], row["concept"]) == (
            sample["cls"],
            sample["caption"],
            sample["json"]["concept"],
        )
        assert np.array_equal(np.asarray(row["image"]), np.asarray(sample["image"]))
        assert np.array_equal(np.asarray(row["mask"]), np.asarray(sample["mask"]))
        assert [each["rle"] for each in row["instances"]] == [each["rle"] for each in sample["json"]["instances"]]


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
@pytest.mark.parametrize("split", COUNTS)
def test_metadata_loads_without_pictures(store: Store, folder: Path, split: str, streaming: bool) -> None:
    loaded = datasets.load_dataset(str(folder), name="metadata", split=split, streaming=streaming)
    rows = list(loaded)
    assert len(rows) == COUNTS[split]
    assert {"image", "mask", "members"}.isdisjoint(rows[0])
    with store.open_read("datasets/parts/1.0.0/manifest.parquet") as file:
        manifest = pq.ParquetFile(file).read().to_pylist()
    expected = [row for row in manifest if row["split"] == split]
    for name in ("sample_id", "seed", "sharpness", "provenance", "phash", "shard"):
        assert [row[name] for row in rows] == [row[name] for row in expected], name
    assert [row["label"] for row in rows] == [row["class_id"] for row in expected]


def test_the_tars_load_by_their_files_and_are_those_of_the_version(store: Store, folder: Path) -> None:
    files = {"train": str(folder / "shards" / "train" / "*.tar")}
    loaded = datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True)
    assert [row["__key__"] for row in loaded] == list(read_version(store, "train"))
    for shard in load_dataset(store, "parts").shards:
        copied = folder / "shards" / shard.split / shard.name
        assert copied.read_bytes() == store.read(f"datasets/parts/1.0.0/shards/{shard.name}")


def test_the_card_names_both_configurations_and_every_file_is_in_a_folder_of_its_split(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert [config["config_name"] for config in header["configs"]] == ["default", "metadata"]
    assert header["configs"][0]["default"] is True
    assert "synthetic" in header["tags"]
    assert datasets.get_dataset_config_names(str(folder)) == ["default", "metadata"]
    assert {split.name for split in (folder / "shards").iterdir()} == set(COUNTS)
    names = sorted(path.name for path in (folder / "data" / "train").iterdir())
    assert names == [f"train-{number:06d}.parquet" for number in range(4)]


def test_datasets_of_one_layout_are_cached_apart(tmp_path: Path) -> None:
    """Version 1.0.0 of two datasets, and exports of both into folders of one name."""
    stores = [Store.open(str(tmp_path / str(seed)), create=True) for seed in (1, 2)]
    for seed, store in enumerate(stores, 1):
        publish_build(make_build(store, make_recipe(seed=seed), {"gear": 6, "hook": 2, "ring": 2}), {})
        export_version(store, "parts", "latest", "huggingface", tmp_path / str(seed) / "hub")
    for layout, column in (("datasets/parts/1.0.0", "__key__"), ("hub", "sample_id")):
        for store in (*stores, stores[0]):
            loaded = datasets.load_dataset(f"{store.uri}/{layout}")
            assert {split: rows[column] for split, rows in loaded.items()} == {
                split: list(read_version(store, split)) for split in loaded
            }
    metadata = [datasets.load_dataset(f"{store.uri}/hub", "metadata", split="train")["sample_id"] for store in stores]
    assert [list(ids) for ids in metadata] == [list(read_version(store, "train")) for store in stores]


def test_some_splits_alone(store: Store, tmp_path: Path) -> None:
    made = export_version(store, "parts", "latest", "huggingface", tmp_path / "hub", ["test"])
    assert made["splits"] == {"test": 11}
    assert sorted(path.name for path in (tmp_path / "hub" / "data").iterdir()) == ["test"]
    assert len(datasets.load_dataset(str(tmp_path / "hub"), split="test")) == 11


def test_two_exports_are_equal(store: Store, folder: Path, tmp_path: Path) -> None:
    export_version(store, "parts", "latest", "huggingface", tmp_path / "hub")
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / "hub" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_rows_come_in_groups_that_a_viewer_reads(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "ROW_GROUP", 5)
    export_version(store, "parts", "latest", "huggingface", tmp_path / "hub", ["train"])
    file = pq.ParquetFile(tmp_path / "hub/data/train/train-000000.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [5, 5, 2]


def test_a_version_whose_manifest_says_less_has_empty_columns(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    write_version(store, {"train": draw_masks()}, told=False)
    export_version(store, NAME, "latest", "huggingface", tmp_path / "hub")
    rows = list(datasets.load_dataset(str(tmp_path / "hub"), split="train"))
    assert len(rows) == 5
    assert [row["label"] for row in rows] == [None] * 5
    assert isinstance(rows[0]["image"], Image.Image)
    info = json.loads(pq.read_schema(tmp_path / "hub/metadata/train.parquet").metadata[b"huggingface"])
    assert info["info"]["features"]["label"]["names"] == list(CLASSES)


def test_more_shards_than_a_folder_of_the_hub_takes_are_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "MOST_FILES", 3)
    with pytest.raises(UserError, match=r"split train has 4 shards.*larger sharding\.max_samples"):
        export_version(store, "parts", "latest", "huggingface", tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("damage", ["shard", "manifest"])
def test_damage_is_told_and_leaves_nothing(store: Store, tmp_path: Path, damage: str) -> None:
    shutil.copytree(store.uri, tmp_path / "store")
    version = tmp_path / "store/datasets/parts/1.0.0"
    if damage == "shard":
        tar = next((version / "shards").glob("train-*.tar"))
        data = bytearray(tar.read_bytes())
        data[-1] ^= 1  # behind the last member: only the digest of the whole tells
        tar.unlink()
        tar.write_bytes(bytes(data))
    else:
        table = pq.ParquetFile(version / "manifest.parquet").read()
        pq.write_table(table.slice(1), version / "manifest.parquet")
    with pytest.raises(VerificationError, match="tailforge verify"):
        export_version(Store.open(str(tmp_path / "store")), "parts", "latest", "huggingface", tmp_path / "hub")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["store"]
