"""Published versions and folders of the library `datasets`, as the one reader opens them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from tailforge.catalog.exports.export import export_version
from tailforge.catalog.images.reader import open_images
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ImagesError, NotFoundError
from tests.support.drawn_version import CLASSES, NAME, draw_masks, write_version
from tests.support.image_files import put, red_of, shade


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(str(tmp_path_factory.mktemp("store")), create=True)
    write_version(store, {"train": draw_masks(), "test": draw_masks()[:2]})
    return store


def test_a_version_is_read_as_its_own_reader_reads_it(store: Store) -> None:
    images = open_images(f"{NAME}@1.0.0", store=store.uri)
    assert images.origin == f"{NAME}@1.0.0 (test, train)"
    for split in ("train", "test"):
        part = images.of_split(split)
        assert part.origin == f"{NAME}@1.0.0 ({split})"
        for record, sample in zip(part, open_dataset(store.uri, split=split, name=NAME), strict=True):
            assert record.id == sample["key"]
            assert record.caption == sample["caption"]
            assert record.label == CLASSES[sample["cls"]]
            assert np.array_equal(np.asarray(record.open_image()), np.asarray(sample["image"]))
            assert np.array_equal(record.read_mask(), np.asarray(sample["mask"]))
            assert [each.category for each in record.instances] == [
                each["category"] for each in sample["json"]["instances"]
            ]
    places = [5, 0, 6, 6, 1]
    assert list(images.stream(places)) == [images.read(place) for place in places]


def test_threads_read_one_version_at_the_same_time(store: Store) -> None:
    images = open_images(f"{NAME}@1.0.0", store=store.uri)
    alone = [record.read_bytes() for record in images]
    orders = [np.random.default_rng(seed).permutation(len(images)).tolist() * 20 for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda order: [images[row].read_bytes() for row in order], orders))
    assert found == [[alone[row] for row in order] for order in orders]


def test_a_version_may_be_named_by_its_folder(store: Store) -> None:
    named = open_images(NAME, store=store.uri)
    for folder in (f"datasets/{NAME}", f"datasets/{NAME}/1.0.0"):
        assert open_images(Path(store.root) / folder).ids == named.ids


def test_a_version_that_does_not_exist_is_named(store: Store) -> None:
    for name, message in ((f"{NAME}@9.0.0", "no version '9.0.0'; it has: 1.0.0"), ("bolts", "no dataset 'bolts'")):
        with pytest.raises(NotFoundError, match=message):
            open_images(name, store=store.uri)
    with pytest.raises(NotFoundError, match=r"bolts does not exist; .* or dataset@version with its store"):
        open_images("bolts")


FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["hook", "gear"]),
        "caption": datasets.Value("string"),
    }
)


@pytest.fixture
def saved() -> Iterator[datasets.Dataset]:
    rows = {"image": [shade(row) for row in range(5)], "label": [0, 1, -1, 0, 1], "caption": ["a", None, "c", "d", "e"]}
    datasets.disable_progress_bars()
    yield datasets.Dataset.from_dict(rows, features=FEATURES)
    datasets.enable_progress_bars()


def test_a_dataset_saved_to_disk(tmp_path: Path, saved: datasets.Dataset) -> None:
    saved.save_to_disk(str(tmp_path / "set"), num_shards=2)
    images = open_images(tmp_path / "set")
    assert images.labels == ("hook", "gear", None, "hook", "gear")
    assert images.captions == ("a", None, "c", "d", "e")
    assert [red_of(data) for data in images.stream([4, 0, 2])] == [4, 0, 2]


def test_a_dataset_with_splits_saved_to_disk(tmp_path: Path, saved: datasets.Dataset) -> None:
    parts = datasets.DatasetDict({"train": saved.select(range(3)), "validation": saved.select([4])})
    parts.save_to_disk(str(tmp_path / "set"))
    images = open_images(tmp_path / "set")
    assert [red_of(data) for data in images.of_split("train").stream()] == [0, 1, 2]
    assert images.of_split("val").labels == ("gear",)


@pytest.mark.parametrize("content", ["", "[]", '{"_data_files": 3}', '{"_data_files": [{"filename": "../a.arrow"}]}'])
def test_a_damaged_folder_is_refused(tmp_path: Path, content: str, saved: datasets.Dataset) -> None:
    saved.save_to_disk(str(tmp_path / "set"))
    (tmp_path / "set/state.json").write_text(content)
    with pytest.raises(ImagesError, match=r"state\.json .*save the dataset again"):
        open_images(tmp_path / "set")
    (tmp_path / "set/state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}]}))
    (tmp_path / "set/a.arrow").write_bytes(b"no arrow")
    with pytest.raises(ImagesError, match=r"a\.arrow cannot be read as Arrow"):
        open_images(tmp_path / "set")


def test_parquet_files_as_the_hub_holds_them(tmp_path: Path, saved: datasets.Dataset) -> None:
    (tmp_path / "data").mkdir()
    for name, rows in (("train-00000-of-00002", [0, 1]), ("train-00001-of-00002", [2]), ("test-00000-of-00001", [3])):
        saved.select(rows).to_parquet(str(tmp_path / f"data/{name}.parquet"))
    (tmp_path / "README.md").write_text("a card")
    images = open_images(tmp_path)
    assert [red_of(data) for data in images.of_split("train").stream()] == [0, 1, 2]
    assert images.of_split("test").labels == ("hook",)


def test_a_version_is_the_same_read_from_its_export_for_the_hub(store: Store, tmp_path: Path) -> None:
    export_version(store, NAME, "1.0.0", "huggingface", tmp_path / "hub")
    exported, published = open_images(tmp_path / "hub"), open_images(NAME, store=store.uri)
    for split in ("train", "test"):
        ours, theirs = exported.of_split(split), published.of_split(split)
        assert ours.labels == theirs.labels
        assert ours.captions == theirs.captions
        assert list(ours.stream()) == list(theirs.stream())
        assert all(np.array_equal(a.read_mask(), b.read_mask()) for a, b in zip(ours, theirs, strict=True))


def test_an_imagefolder_reads_as_the_library_reads_it(tmp_path: Path) -> None:
    for number, name in enumerate(("train/gear/a.png", "train/hook/b.png", "test/gear/c.png")):
        put(tmp_path / name, number)
    theirs = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), cache_dir=str(tmp_path / ".cache"))
    images = open_images(tmp_path)
    for split in ("train", "test"):
        ours, names = images.of_split(split), theirs[split].features["label"].names
        assert ours.labels == tuple(names[row["label"]] for row in theirs[split])
        for record, row in zip(ours, theirs[split], strict=True):
            assert isinstance(row["image"], Image.Image)
            assert np.array_equal(np.asarray(record.open_image()), np.asarray(row["image"]))
