"""Labelled images from files, folders and versions, the rows taken by lot, and every way to be wrong."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tailforge.catalog.exports.export import export_version
from tailforge.catalog.images.records import Images
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ImagesError, NotFoundError
from tailforge.tasks.images.labelled import choose_rows, decode_images, label_rows, open_labelled, refuse_shared
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.tiny_pictures import NAMES, SIDE, encode, toy_pictures, write_folder, write_parquet

SIZE = (SIDE, SIDE)


def decode(source: Path | str, split: str = "train", store: str = "nowhere", channels: int = 3) -> Pictures:
    images = open_labelled(str(source), split, store)
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
    train, test = (open_labelled("parts@1.0.0", split, store.uri) for split in ("train", "test"))
    assert train.origin == "parts@1.0.0 (train)"
    assert len(train) > len(test) > 0
    assert set(train.labels) == set(NAMES)
    whole = open_labelled("whole", "test", store.uri)
    assert whole.origin == open_labelled("whole", "train", store.uri).origin == "whole@1.0.0 (train)"
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
    train = open_labelled("held", "train", store.uri)
    apart = open_labelled("held", "test", store.uri, train.origin)
    assert apart.origin == "held@1.0.0 (validation)"
    assert len(apart) + len(train) == len(open_labelled("held", "test", store.uri))
    assert open_labelled("whole", "test", store.uri, train.origin).origin == "whole@1.0.0 (train)"


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


def tell_classes(names: list[str], **others: list[str]) -> dict[bytes, bytes]:
    """Schema metadata as `datasets` writes it."""
    features = {name: {"names": told, "_type": "ClassLabel"} for name, told in {"label": names, **others}.items()}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def write_labels(file: Path, labels: pa.Array, metadata: dict[bytes, bytes] | None = None, **columns: pa.Array) -> Path:
    images = [encode(image) for image in toy_pictures(len(labels), seed=1).images]
    table = pa.table({"image": images, "label": labels, **columns})
    pq.write_table(table.replace_schema_metadata(metadata), file)
    return file


def open_labels(file: Path, split: str = "train") -> tuple[str, ...]:
    return open_labelled(file, split).require_labels()


def test_numbers_are_the_names_that_the_file_gives_them(tmp_path: Path) -> None:
    """As the library writes them, and as an export of a version does."""
    names = ["ring", "gear", "hook"]  # in another order than NAMES
    label = datasets.ClassLabel(names=names)
    features = datasets.Features({"image": datasets.Image(), "label": label, "split": datasets.Value("string")})
    pictures = toy_pictures(9, seed=1)
    rows = [
        {"image": {"bytes": encode(image), "path": None}, "label": names.index(NAMES[number]), "split": "train"}
        for image, number in zip(pictures.images, pictures.labels, strict=True)
    ]
    file = tmp_path / "theirs.parquet"
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(file))
    assert open_labels(file) == tuple(NAMES[number] for number in pictures.labels)
    assert np.array_equal(decode(file).labels, pictures.labels)


def test_a_version_is_the_same_read_from_its_export(store: Store, tmp_path: Path) -> None:
    export_version(store, "parts", "latest", "huggingface", tmp_path / "hub", ["train"])
    exported = open_labelled(tmp_path / "hub/data/train/train-000000.parquet", "train")
    published = open_labelled("parts", "train", store.uri)
    assert exported.labels == published.labels
    assert [exported.read(row) for row in range(len(exported))] == [
        published.read(row) for row in range(len(published))
    ]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.int64()])
def test_numbers_without_names_stay_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    assert open_labels(write_labels(tmp_path / "a.parquet", pa.array([2, 0, 10], kind))) == ("2", "0", "10")


def test_labels_of_a_dictionary_are_its_texts(tmp_path: Path) -> None:
    labels = pa.array(["hook", "gear", "hook"]).dictionary_encode()
    assert open_labels(write_labels(tmp_path / "a.parquet", labels)) == ("hook", "gear", "hook")


def test_splits_may_be_numbers_with_names(tmp_path: Path) -> None:
    labels, splits = pa.array([0, 1, 0, 1]), pa.array([1, 0, 1, 1])
    metadata = tell_classes(["gear", "hook"], split=["train", "test"])
    file = write_labels(tmp_path / "a.parquet", labels, metadata, split=splits)
    assert open_labels(file, "train") == ("hook",)
    assert open_labels(file, "test") == ("gear", "gear", "hook")


@pytest.mark.parametrize(
    ("labels", "metadata", "message"),
    [
        (pa.array(["gear", None, "hook"]), None, r"no label: .*a\.parquet: row 1; label each image or remove it"),
        (pa.array(["", "gear", "  "]), None, r"no label: .*: row 0, .*: row 2;"),
        (pa.array([None] * 12, pa.string()), None, r"no label: .*: row 0, .*: row 4 and 7 more"),
        (pa.array([None, None], pa.null()), None, r"no label: .*: row 0, .*: row 1;"),
        (pa.array([0, None, 1]), None, r"no label: .*: row 1;"),
        (pa.array([0.0, float("nan"), None, 1.0]), None, r"no label: .*: row 1, .*: row 2;"),
        (pa.array(["gear", None]).dictionary_encode(), None, r"no label: .*: row 1;"),
        (pa.array([0, -1, 1]), tell_classes(["gear", "hook"]), r"no label: .*: row 1;"),
        (pa.array([0, 1, 2]), tell_classes(["gear", "hook"]), r"row 2 has label 2, .* name 2 classes, 0 to 1"),
        (pa.array([0, 1]), tell_classes(["gear", "gear"]), r"no list of different names"),
        (pa.array([0, 1]), {b"huggingface": b"[" * 100_000}, r"metadata `huggingface`.* cannot be read"),
        (pa.array([0, 1]), {b"huggingface": b"[1]"}, r"metadata `huggingface`.* cannot be read"),
        (pa.array([0.0, 1.0]), None, r"column label holds double; it needs names, or whole numbers"),
        (pa.array([True, False]), None, r"column label holds bool"),
        (pa.array([b"gear", b"hook"]), None, r"column label holds binary"),
        (pa.array([["gear"], ["hook"]]), None, r"column label holds list"),
    ],
)
def test_rows_without_a_class_are_named(
    tmp_path: Path, labels: pa.Array, metadata: dict[bytes, bytes] | None, message: str
) -> None:
    with pytest.raises(ImagesError, match=message):
        open_labels(write_labels(tmp_path / "a.parquet", labels, metadata))


def test_rows_of_another_split_need_no_class_but_every_row_needs_a_split(tmp_path: Path) -> None:
    labels = pa.array(["gear", None, "hook"])
    file = write_labels(tmp_path / "a.parquet", labels, split=pa.array(["train", "test", "train"]))
    assert open_labels(file) == ("gear", "hook")
    with pytest.raises(ImagesError, match=r"no label: .*: row 1;"):
        open_labels(file, "test")
    with pytest.raises(ImagesError, match=r"row 1 .* has no split"):
        open_labels(write_labels(tmp_path / "b.parquet", labels, split=pa.array(["train", None, "train"])))


def _link(place: Path, target: Path) -> None:
    place.symlink_to(target)


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda f: _link(f / "gear/x.png", f.parent / "other/hook/0001.png"), r"x\.png is a link that leaves"),
        (lambda f: _link(f / "claw", f.parent / "other/hook"), r"claw is a link that leaves .*copy the file"),
        (lambda f: _link(f / "gear/more", f / "hook"), r"more is a link to a folder; copy the folder"),
        (lambda f: _link(f / "gear/x.png", f / "nothing.png"), r"x\.png is no file, or a link to none"),
        (lambda f: _link(f / "gear/x.png", f / "gear/x.png"), r"x\.png is a link that leaves"),
        (lambda f: os.mkfifo(f / "gear/x.png"), r"x\.png is no file"),
        (lambda f: (f / "gear/x.HEIC").touch(), r"x\.HEIC cannot be read; save it as one of \.bmp"),
        (lambda f: (f / "gear/x.gif").touch(), r"x\.gif cannot be read"),
        (lambda f: (f / "bolt").mkdir(), r"folder .*bolt holds no image; put images of its class there"),
        (lambda f: (f / "x.png").touch(), r"x\.png is in no folder of its class"),
    ],
)
def test_no_image_of_a_folder_is_left_out_or_lies_elsewhere(
    tmp_path: Path, arrange: Callable[[Path], object], message: str
) -> None:
    folder = write_folder(tmp_path / "toy", toy_pictures(6, seed=1))
    write_folder(tmp_path / "other", toy_pictures(6, seed=2))
    arrange(folder)
    with pytest.raises(ImagesError, match=message):
        open_labelled(folder, "train")


def test_a_link_inside_the_folder_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "toy", toy_pictures(3, seed=1))
    (folder / "gear/x.png").symlink_to(folder / "hook/0001.png")
    (tmp_path / "named").symlink_to(folder)
    for place in (folder, tmp_path / "named"):
        images = open_labelled(place, "train")
        assert images.labels == ("gear", "gear", "hook", "ring")
        assert images.read(1) == images.read(2)


def test_images_are_read_as_a_viewer_shows_them(tmp_path: Path) -> None:
    """As captioned images are: upright, 16-bit grey scaled down, what is transparent over grey."""
    (tmp_path / "hook").mkdir()
    shade = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by 90 degrees to the right
    Image.fromarray(np.rot90(shade).copy()).save(tmp_path / "hook/a.png", exif=turned)
    Image.fromarray(shade.astype(np.uint16) * 256).save(tmp_path / "hook/b.png")
    Image.new("RGBA", SIZE, (255, 0, 0, 0)).save(tmp_path / "hook/c.png")
    for channels in (1, 3):
        found = decode(tmp_path, channels=channels).images
        assert np.array_equal(found[0], np.repeat(shade[..., None], channels, axis=2))
        assert np.array_equal(found[1], found[0])
        assert np.unique(found[2]).tolist() == [128]


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
        (tmp_path / "empty", r"empty holds no image; put some there"),
        (tmp_path / "bad", r"gear.a.png cannot be read as an image"),
    ):
        with pytest.raises(ImagesError, match=message):
            decode(source)
    for source, message in (("no/such", "no file, no folder and no name"), ("none", "has no dataset 'none'")):
        with pytest.raises(NotFoundError, match=message):
            decode(source, store=str(tmp_path))


def test_every_row_has_its_class_number(tmp_path: Path) -> None:
    pictures = toy_pictures(9, seed=1)
    images = open_labelled(write_parquet(tmp_path / "toy.parquet", {"train": pictures}), "train")
    assert np.array_equal(label_rows(images, NAMES.index), pictures.labels)


@pytest.mark.parametrize("other", ["hex  nut", "hex nut ", "Hex nut", "hex\u00a0nut"])
def test_classes_that_look_alike_are_refused(other: str, tmp_path: Path) -> None:
    image = encode(toy_pictures(1, 0).images[0])
    file, folder = tmp_path / "labelled.parquet", tmp_path / "labelled"
    pq.write_table(pa.table({"image": [image, image], "label": ["hex nut", other]}), file)
    for name in ("hex nut", other):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(image)
    for place in (file, folder):
        with pytest.raises(ImagesError, match=r"the classes .* and .* look alike"):
            open_labelled(place, "train")


def test_a_class_is_kept_by_its_tidy_name(tmp_path: Path) -> None:
    image = encode(toy_pictures(1, 0).images[0])
    for name in (" cafe\u0301  bar", "gear"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(image)
    assert set(open_labelled(tmp_path, "train").labels) == {"caf\u00e9 bar", "gear"}


def test_labelled_images_come_in_every_shape(tmp_path: Path) -> None:
    """A CSV file with paths, a COCO file and tars give the arrays that the folder gives."""
    parts = {"train": toy_pictures(9, seed=1), "test": toy_pictures(6, seed=2)}
    for split, pictures in parts.items():
        write_folder(tmp_path / "toy" / split, pictures)
    folder = {split: open_labelled(tmp_path / "toy", split) for split in parts}
    rows = [(f"{split}/{name}", split, label) for split in parts for name, label in _list(folder[split], split)]
    (tmp_path / "toy/all.csv").write_text("\n".join(["file_name,split,label", *map(",".join, rows)]))
    for split in parts:
        _write_coco(tmp_path / "toy/annotations" / f"instances_{split}.json", rows, split)
        _write_tar(tmp_path / "tars" / f"{split}-0000.tar", folder[split])

    for source in ("toy/all.csv", "toy", "tars"):
        for split in parts:
            found = decode(tmp_path / source, split)
            assert np.array_equal(found.images, decode_images(folder[split], NAMES.index, SIZE, 3, _all(found)).images)
            assert np.array_equal(found.labels, label_rows(folder[split], NAMES.index))


def _all(found: Pictures) -> np.ndarray:
    return np.arange(len(found))


def _list(images: Images, split: str) -> list[tuple[str, str]]:
    return [(each.id.removeprefix(f"{split}/"), str(each.label)) for each in images]


def _write_coco(file: Path, rows: list[tuple[str, str, str]], split: str) -> None:
    file.parent.mkdir(exist_ok=True)
    own = [(name, label) for name, each, label in rows if each == split]
    images = [{"id": number, "file_name": name} for number, (name, _) in enumerate(own)]
    annotations = [{"image_id": number, "category_id": NAMES.index(label)} for number, (_, label) in enumerate(own)]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def _write_tar(file: Path, images: Images) -> None:
    file.parent.mkdir(exist_ok=True)
    with webdataset.TarWriter(str(file), encoder=False) as writer:
        for number, record in enumerate(images):
            writer.write({"__key__": f"{number:04d}", "png": record.read_bytes(), "cls": str(record.label).encode()})
