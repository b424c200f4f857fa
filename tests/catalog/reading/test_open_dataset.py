"""Consuming a version: the plain iterator, webdataset, torch's DataLoader and Hugging Face datasets see the same."""

import gc
import hashlib
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset as wds
from torch.utils.data import DataLoader

from tailforge.catalog.reading.decoding import decode_sample
from tailforge.catalog.reading.open_dataset import ShardedDataset, open_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.errors import NotFoundError, ReadingError, VerificationError
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.repository import ROOT
from tests.support.tar_members import read_members

# webdataset and datasets leave tars to the garbage collector; these tests call it, so that no other test pays.
LEAVES_FILES_OPEN = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def train(published: Store) -> ShardedDataset:
    return open_dataset(f"{published.uri}/datasets/parts")


def manifest_rows(folder: Path, split: str) -> list[dict[str, Any]]:
    rows = pq.ParquetFile(folder / "manifest.parquet").read().to_pylist()
    return [row for row in rows if row["split"] == split]


@pytest.mark.parametrize(
    "change",
    [{"position": 10**9}, {"position": -1}, {"position": "1"}, {"position": True}, {"epoch": -1}, {"epoch": None}],
    ids=str,
)
def test_a_state_of_a_place_that_is_not_there_is_refused(train: ShardedDataset, change: dict[str, object]) -> None:
    with pytest.raises(ReadingError, match=r"the state's (position|epoch) is"):
        train.load_state_dict(train.state_dict() | change)
    lacking = {name: value for name, value in train.state_dict().items() if name not in change}
    with pytest.raises(ReadingError, match=r"the state's (position|epoch) is None"):
        train.load_state_dict(lacking)


@pytest.mark.parametrize("state", [None, [], 5, "epoch"], ids=str)
def test_what_is_no_state_is_refused(train: ShardedDataset, state: Any) -> None:
    with pytest.raises(ReadingError, match="give what state_dict returned"):
        train.load_state_dict(state)


def test_samples_come_decoded_in_the_order_of_the_manifest(train: ShardedDataset, folder: Path) -> None:
    samples, rows = list(train), manifest_rows(folder, "train")
    assert len(train) == len(samples) == len(rows)
    for sample, row in zip(samples, rows, strict=True):
        assert (sample["key"], sample["caption"], sample["cls"]) == (row["sample_id"], row["caption"], row["class_id"])
        assert sample["json"]["sample_id"] == row["sample_id"]
        assert (sample["image"].mode, sample["image"].size) == ("RGB", (16, 16))
        assert set(np.unique(np.asarray(sample["mask"]))) == {0, sample["cls"] + 1}
        assert sample["attention"].dtype == np.float16
    assert train.classes == ("gear", "hook", "ring")
    assert repr(train) == "<ShardedDataset parts@1.0.0, split train, 42 samples>"


def test_bytes_are_those_of_the_manifest(published: Store, folder: Path) -> None:
    raw = open_dataset(published.uri, split="test", name="parts", decode=False)
    for sample, row in zip(raw, manifest_rows(folder, "test"), strict=True):
        digests = {member["field"]: member["sha256"] for member in row["members"]}
        assert hashlib.sha256(sample["image"]).digest() == digests["png"]
        assert hashlib.sha256(sample["mask"]).digest() == digests["seg.png"]


def test_it_can_be_read_again_and_sent_to_a_worker(train: ShardedDataset) -> None:
    keys = [sample["key"] for sample in train]
    assert [sample["key"] for sample in train] == keys
    assert [sample["key"] for sample in pickle.loads(pickle.dumps(train))] == keys


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "bolts"}, "has no dataset 'bolts'"),
        ({"name": "parts", "version": "7.0.0"}, "has no version"),
        ({"name": "parts", "split": "validation"}, "has no split 'validation'; it has: test, train"),
        ({}, "is no dataset"),
    ],
)
def test_what_does_not_exist_is_explained(published: Store, options: dict[str, str], message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        open_dataset(published.uri, **options)  # type: ignore[arg-type]


@pytest.fixture
def copied(published: Store, tmp_path: Path) -> Path:
    """A copy of the store, to be damaged."""
    return Path(shutil.copytree(published.path(""), tmp_path / "store"))


def find_member(shard: Path, field: str) -> tuple[str, int]:
    """Name and offset of the first member of a field."""
    with open(shard, "rb") as file:
        return next((each.name, each.offset) for each in read_members(file) if each.field == field)


@pytest.mark.parametrize("length", [5000, 512, 0])
def test_a_shard_that_was_cut_off_is_an_error_that_says_where(copied: Path, length: int) -> None:
    shard = copied / "datasets/parts/1.0.0/shards/train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:length])
    read = iter(open_dataset(str(copied), name="parts"))
    assert len([next(read) for _ in range(12)]) == 12  # the shard before is read
    with pytest.raises(VerificationError, match=r"train-000001\.tar: cut off: it ends at byte .*\.[a-z.]+ ends at"):
        next(read)


def test_a_missing_shard_is_an_error(copied: Path) -> None:
    (copied / "datasets/parts/1.0.0/shards/train-000000.tar").unlink()
    with pytest.raises(VerificationError, match=r"train-000000\.tar is missing"):
        list(open_dataset(str(copied), name="parts"))


def test_what_cannot_be_decoded_is_an_error_that_names_the_sample(copied: Path) -> None:
    shard = copied / "datasets/parts/1.0.0/shards/train-000001.tar"
    name, offset = find_member(shard, "png")
    damage(shard, offset)
    with pytest.raises(VerificationError, match=rf"train-000001\.tar: sample {name.split('.')[0]} cannot be decoded"):
        list(open_dataset(str(copied), name="parts"))


@pytest.mark.parametrize("field", ["png", "seg.png", "json", "txt", "cls", "attn.npy"])
def test_every_damaged_member_is_found_when_asked_for(copied: Path, field: str) -> None:
    shard = copied / "datasets/parts/1.0.0/shards/train-000001.tar"
    name, offset = find_member(shard, field)
    damage(shard, offset)
    with pytest.raises(VerificationError, match=rf"train-000001\.tar: {name} has sha256"):
        list(open_dataset(str(copied), name="parts", verify=True))


def test_an_undamaged_version_passes_the_verification(published: Store, train: ShardedDataset) -> None:
    verified = open_dataset(published.uri, name="parts", verify=True)
    assert [sample["key"] for sample in verified] == [sample["key"] for sample in train]


@pytest.mark.parametrize("length", [0, 100, 2000])
def test_a_damaged_manifest_is_an_error_that_names_it(copied: Path, length: int) -> None:
    manifest = copied / "datasets/parts/1.0.0/manifest.parquet"
    manifest.write_bytes(manifest.read_bytes()[:length])
    with pytest.raises(VerificationError, match=r"manifest\.parquet cannot be read"):
        list(open_dataset(str(copied), name="parts"))


def test_a_manifest_of_another_version_is_an_error(copied: Path) -> None:
    manifest = copied / "datasets/parts/1.0.0/manifest.parquet"
    table = pq.ParquetFile(manifest).read()
    pq.write_table(table.slice(0, 20), manifest)
    with pytest.raises(VerificationError, match=r"does not have the 12 samples of train-000000\.tar"):
        list(open_dataset(str(copied), name="parts"))


def damage(file: Path, offset: int) -> None:
    """Turn all bits of a byte."""
    data = bytearray(file.read_bytes())
    data[offset] ^= 255
    file.write_bytes(data)


def test_the_pipeline_gives_the_same_samples(train: ShardedDataset) -> None:
    expected = [sample["key"] for sample in train]
    found = [decode_sample(sample) for sample in train.webdataset()]
    assert [sample["key"] for sample in found] == expected
    assert found[0]["mask"].mode == "P"
    shuffled = [sample["__key__"] for sample in train.webdataset(shuffle_seed=3)]
    assert shuffled != expected
    assert sorted(shuffled) == sorted(expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_sees_every_sample_once(train: ShardedDataset, workers: int) -> None:
    loader = DataLoader(train.webdataset().map(decode_sample), batch_size=None, num_workers=workers)
    assert sorted(sample["key"] for sample in loader) == sorted(sample["key"] for sample in train)


@LEAVES_FILES_OPEN
def test_plain_webdataset_reads_the_tars(train: ShardedDataset) -> None:
    urls = [shard.removeprefix("file://") for shard in train.shards]
    found = [sample["__key__"] for sample in wds.WebDataset(urls, shardshuffle=False).decode("pil")]
    assert found == [sample["key"] for sample in train]
    gc.collect()


@LEAVES_FILES_OPEN
def test_hugging_face_reads_the_tars_and_the_manifest(train: ShardedDataset, folder: Path, tmp_path: Path) -> None:
    urls = [shard.removeprefix("file://") for shard in train.shards]
    loaded = datasets.load_dataset(
        "webdataset", data_files={"train": urls}, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [sample["__key__"] for sample in loaded] == [sample["key"] for sample in train]
    assert loaded[0]["png"].size == (16, 16)
    assert loaded[0]["json"]["instances"][0]["category"] in train.classes
    manifest = datasets.load_dataset(
        "parquet", data_files=str(folder / "manifest.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert manifest.num_rows == 53
    gc.collect()


@LEAVES_FILES_OPEN
def test_hugging_face_finds_the_splits_by_the_card(folder: Path, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: part.num_rows for split, part in loaded.items()} == {"test": 11, "train": 42}
    gc.collect()


def test_the_iterator_needs_no_torch(published: Store) -> None:
    program = (
        "import sys\nfrom tailforge.catalog.reading.open_dataset import open_dataset\n"
        f"print(len(list(open_dataset({published.uri + '/datasets/parts'!r}))))\n"
        "print([name for name in ('torch', 'prefect', 'webdataset') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["42", "[]"]


def test_a_dataset_is_found_by_whatever_names_its_folder(
    published: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An object of a path, a path from inside the store or the datasets, one with `~`, a version's folder."""
    folder = Path(published.uri) / "datasets" / "parts"
    monkeypatch.setenv("HOME", str(Path(published.uri).parent))
    named: list[tuple[Path, Any]] = [
        (tmp_path, folder),
        (tmp_path, f"{folder}/"),
        (tmp_path, folder / "1.0.0"),
        (tmp_path, "~/store/datasets/parts"),
        (tmp_path, f"file://{folder}"),
        (Path(published.uri), "datasets/parts"),
        (Path(published.uri), Path("datasets/parts/1.0.0")),
        (folder, "."),
        (folder.parent, Path("parts")),
    ]
    for here, uri in named:
        monkeypatch.chdir(here)
        assert len(open_dataset(uri)) == 42
    assert len(open_dataset(Path("~/store"), name="parts")) == 42


def test_another_version_than_the_folder_names_is_refused(folder: Path) -> None:
    assert len(open_dataset(folder, "1.0.0")) == 42
    with pytest.raises(ReadingError, match=r"is version 1\.0\.0, but version '2\.0\.0' is requested"):
        open_dataset(folder, "2.0.0")


@pytest.mark.parametrize("uri", ["datasets", "parts", "datasets/parts/shards", "s3://bucket/parts"])
def test_what_names_no_dataset_is_refused(published: Store, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(published.uri)
    with pytest.raises(NotFoundError, match=f"'{uri}' is no dataset; give <store>/datasets/<name>"):
        open_dataset(uri)


def test_a_cache_lies_where_its_path_says(published: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for cache in ("~/cache", Path("own")):
        next(iter(open_dataset(published.uri, name="parts", cache=cache)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "own"]
    assert list((tmp_path / "home" / "cache").glob("*.tar"))
    with pytest.raises(ReadingError, match="give a local one"):
        open_dataset(published.uri, name="parts", cache="s3://bucket/cache")


def test_val_means_validation(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    recipe = make_recipe(splits={"train": 0.5, "validation": 0.5})
    publish_build(make_build(store, recipe, {"gear": 12}))
    found = [[sample["key"] for sample in open_dataset(store.uri, name="parts", split=split)]
             for split in ("val", "validation")]  # fmt: skip
    assert found[0] == found[1] != []
    with pytest.raises(NotFoundError, match="has no split 'test'; it has: "):
        open_dataset(store.uri, name="parts", split="test")
