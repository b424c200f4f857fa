"""Labelled images from files, folders and versions, the rows taken by lot, and every way to be wrong."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.store import Store
from schemas.errors import ImagesError, NotFoundError
from tasks.labelled_images import choose_rows, decode_images, label_rows, open_images, refuse_shared
from tasks.methods.train_classifier import Pictures
from tests.fabricate import make_build, make_recipe, publish_build
from tests.tiny_pictures import NAMES, SIDE, encode, toy_pictures, write_folder, write_parquet

SIZE = (SIDE, SIDE)


def decode(source: Path | str, split: str = "train", store: str = "nowhere", channels: int = 3) -> Pictures:
    images = open_images(str(source), store, split)
    return decode_images(images, NAMES.index, SIZE, channels, np.arange(len(images)))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(str(tmp_path_factory.mktemp("store")), create=True)
    for name, splits in (("parts", {"train": 0.8, "test": 0.2}), ("whole", {"train": 1.0})):
        recipe = make_recipe(name=name, splits=splits)
        publish_build(make_build(store, recipe, dict.fromkeys(NAMES, 20)), {"report/index.html": b"<html>"})
    return store


def test_parquet_rows_are_read_by_split(tmp_path: Path) -> None:
    train, test = toy_pictures(9, seed=1), toy_pictures(6, seed=2)
    file = write_parquet(tmp_path / "toy.parquet", {"train": train, "test": test})
    for split, pictures in (("train", train), ("test", test)):
        found = decode(file, split)
        assert np.array_equal(found.images, pictures.images)
        assert np.array_equal(found.labels, pictures.labels)


def test_parquet_that_the_datasets_library_wrote_is_read(tmp_path: Path) -> None:
    pictures = toy_pictures(3, seed=1, channels=1)
    rows = [{"image": {"bytes": encode(image), "path": None}, "label": "hook"} for image in pictures.images]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "toy.parquet")
    found = decode(tmp_path / "toy.parquet", channels=1)
    assert np.array_equal(found.images, pictures.images)
    assert found.labels.tolist() == [1, 1, 1]


def test_a_folder_of_one_folder_a_class_is_read_class_by_class(tmp_path: Path) -> None:
    pictures = toy_pictures(9, seed=1)
    folder = write_folder(tmp_path / "toy", pictures)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden").mkdir()
    order = np.argsort(pictures.labels, kind="stable")
    found = decode(folder)
    assert np.array_equal(found.images, pictures.images[order])
    assert np.array_equal(found.labels, pictures.labels[order])


def test_a_version_is_read_by_split_and_whole_where_it_has_no_test(store: Store) -> None:
    train, test = (open_images("parts@1.0.0", store.uri, split) for split in ("train", "test"))
    assert train.origin == "parts@1.0.0 (train)"
    assert len(train) > len(test) > 0
    assert set(train.labels) == set(NAMES)
    whole = open_images("whole", store.uri, "test")
    assert whole.origin == open_images("whole", store.uri, "train").origin == "whole@1.0.0 (train)"
    assert decode("whole", store=store.uri).images.shape == (len(whole), SIDE, SIDE, 3)


def test_a_folder_of_train_and_test_is_read_by_split(tmp_path: Path) -> None:
    parts = {"train": toy_pictures(9, seed=1), "test": toy_pictures(6, seed=2)}
    for split, pictures in parts.items():
        write_folder(tmp_path / split, pictures)
    for split, pictures in parts.items():
        found = decode(tmp_path, split)
        assert np.array_equal(found.images, pictures.images[np.argsort(pictures.labels, kind="stable")])


def test_a_test_takes_nothing_of_a_version_that_is_learnt_from(store: Store) -> None:
    recipe = make_recipe(name="held", splits={"train": 0.5, "validation": 0.5})
    publish_build(make_build(store, recipe, dict.fromkeys(NAMES, 20)), {"report/index.html": b"<html>"})
    train = open_images("held", store.uri, "train")
    apart = open_images("held", store.uri, "test", train.origin)
    assert apart.origin == "held@1.0.0 (validation)"
    assert len(apart) + len(train) == len(open_images("held", store.uri, "test"))
    assert open_images("whole", store.uri, "test", train.origin).origin == "whole@1.0.0 (train)"


def test_test_images_that_are_learnt_from_are_counted() -> None:
    training, test = toy_pictures(9, seed=1), toy_pictures(9, seed=2)
    refuse_shared(training, test, "here", "there")
    test.images[[2, 5]] = training.images[[7, 0]]
    with pytest.raises(ImagesError, match="2 of the 9 test images of there are among the training images of here"):
        refuse_shared(training, test, "here", "there")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 9), st.data())
def test_rows_by_lot_are_of_all_classes_alike(labels: list[int], seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(labels)))
    whole = np.array(labels)
    rows = choose_rows(whole, count, seed)
    assert len(set(rows.tolist())) == count
    assert rows.tolist() == sorted(rows.tolist())
    taken = {label: int((whole[rows] == label).sum()) for label in set(labels)}
    for label, number in taken.items():  # a class that gives fewer than another has no more to give
        assert number >= max(taken.values()) - 1 or number == labels.count(label)
    assert np.array_equal(choose_rows(whole, count, seed), rows)


def test_another_seed_takes_other_rows() -> None:
    labels = np.arange(100) % 4
    assert not np.array_equal(choose_rows(labels, 20, 0), choose_rows(labels, 20, 1))


def test_unusable_files_are_named(tmp_path: Path) -> None:
    toy = {"train": toy_pictures(3, seed=1)}
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    pq.write_table(pa.table({"image": pa.array([], pa.binary()), "label": []}), tmp_path / "none.parquet")
    paths = pa.array([{"path": "a.png"}], pa.struct([("path", pa.string())]))
    pq.write_table(pa.table({"image": paths, "label": ["gear"]}), tmp_path / "paths.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad" / "gear").mkdir(parents=True)
    (tmp_path / "bad" / "gear" / "a.png").write_bytes(b"no image")
    for source, message in (
        (tmp_path / "broken.parquet", r"broken.parquet cannot be read as Parquet"),
        (write_parquet(tmp_path / "class.parquet", toy, column="class"), "no column 'label'; it has: split, class"),
        (write_parquet(tmp_path / "other.parquet", {"dev": toy["train"]}), "no row of split 'train'; it has: dev"),
        (tmp_path / "none.parquet", "none.parquet has no rows"),
        (tmp_path / "paths.parquet", r"paths.parquet: column image is struct<path: string>, which has no field bytes"),
        (tmp_path / "empty", "holds no image in a folder of its class"),
        (tmp_path / "bad", r"gear.a.png cannot be read as an image"),
    ):
        with pytest.raises(ImagesError, match=message):
            decode(source)
    for source, message in (("no/such", "no file, no folder and no name"), ("none", "has no dataset 'none'")):
        with pytest.raises(NotFoundError, match=message):
            decode(source, store=str(tmp_path))


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "toy.parquet", {"train": toy_pictures(3, seed=1)})
    images = open_images(str(file), "nowhere", "train")
    with pytest.raises(ImagesError, match=r"toy.parquet: row 2 is 16 x 16 pixels .* reads 24 x 8"):
        decode_images(images, NAMES.index, (8, 24), 3, np.array([2]))


def test_every_row_has_its_class_number(tmp_path: Path) -> None:
    pictures = toy_pictures(9, seed=1)
    images = open_images(str(write_parquet(tmp_path / "toy.parquet", {"train": pictures})), "nowhere", "train")
    assert np.array_equal(label_rows(images, NAMES.index), pictures.labels)
