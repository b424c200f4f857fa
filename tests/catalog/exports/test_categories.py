"""Exports of a version whose masks hold more than its classes: another thing, and stuff, which has no box."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from tailforge.catalog.exports.export import FORMATS, export_version
from tailforge.catalog.exports.panoptic import find_segments
from tailforge.catalog.exports.samples import open_split
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.registry import DATASETS
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.errors import VerificationError
from tailforge.schemas.settings.annotation import Category
from tests.support.drawn_version import CLASSES, NAME, draw_masks, write_version

THINGS, FLOOR = CLASSES[:2], CLASSES[2]  # the last class of the drawn masks plays the stuff
CATEGORIES = (*(Category(name=name) for name in THINGS), Category(name=FLOOR, thing=False))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    store = Store.open(str(tmp_path_factory.mktemp("store")))
    drawn = write_version(store, {"train": draw_masks()}).model_copy(
        update={"classes": THINGS, "categories": CATEGORIES, "lineage": {"store": store.uri, "fingerprints": {}}}
    )
    store.write_bytes(f"{DATASETS}/{NAME}/1.0.0/dataset.json", drawn.model_dump_json().encode())
    return drawn


@pytest.fixture
def store(dataset: Dataset) -> Store:
    return Store.open(dataset.lineage["store"])


def test_coco_holds_stuff_with_its_category(store: Store, tmp_path: Path) -> None:
    export_version(store, NAME, "latest", "coco", tmp_path / "coco")
    coco = COCO(tmp_path / "coco/annotations/instances_train.json")
    assert [(c["name"], c["isthing"]) for c in coco.loadCats([1, 2, 3])] == [*((n, 1) for n in THINGS), (FLOOR, 0)]
    assert {row["category_id"] for row in coco.anns.values()} == {1, 2, 3}


def test_panoptic_says_what_is_stuff(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    export_version(store, NAME, "latest", "panoptic", tmp_path / "panoptic")
    document = json.loads((tmp_path / "panoptic/annotations/panoptic_train.json").read_text())
    named = {(c["id"], c["name"], c["isthing"]) for c in document["categories"]}
    assert named == {(1, THINGS[0], 1), (2, THINGS[1], 1), (3, FLOOR, 0), (4, "background", 0)}
    for sample in open_split(store, dataset, "train"):
        _, rows = find_segments(sample, 4)
        assert {row["category_id"] for row in rows} <= {1, 2, 3, 4}


def test_boxes_are_of_things_alone(store: Store, tmp_path: Path) -> None:
    for name in ("yolo", "voc"):
        export_version(store, NAME, "latest", name, tmp_path / name)
    card = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert card["names"] == dict(enumerate(THINGS))
    labels = [file.read_text().splitlines() for file in (tmp_path / "yolo/labels/train").iterdir()]
    numbers = [line.split()[0] for lines in labels for line in lines]
    assert set(numbers) == {"0", "1"}
    named = [
        element.findtext("name")
        for file in (tmp_path / "voc/Annotations").iterdir()
        for element in ElementTree.parse(file).getroot().findall("object")
    ]
    assert set(named) == set(THINGS)
    assert (tmp_path / "voc/labels.txt").read_text().splitlines() == ["background", *THINGS, FLOOR]
    masks = [np.asarray(Image.open(file)) for file in (tmp_path / "voc/SegmentationClass").iterdir()]
    assert {int(value) for mask in masks for value in np.unique(mask)} == {0, 1, 2, 3, 255}


def test_the_reader_names_what_masks_hold(store: Store) -> None:
    assert open_dataset(store.uri, name=NAME).categories == (*THINGS, FLOOR)
    assert open_dataset(store.uri, name=NAME).classes == THINGS


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (CATEGORIES[:2], r"has an instance of .* which has another name in dataset\.json"),
        ((CATEGORIES[1], CATEGORIES[0], CATEGORIES[2]), "categories are the classes, then others"),
    ],
    ids=["lost", "mixed"],
)
def test_categories_that_are_not_those_of_the_instances_are_damage(
    dataset: Dataset, tmp_path: Path, format_name: str, wrong: tuple[Category, ...], message: str
) -> None:
    shutil.copytree(dataset.lineage["store"], tmp_path / "store")
    store = Store.open(str(tmp_path / "store"))
    damaged = dataset.model_copy(update={"categories": wrong})
    store.write_bytes(f"{DATASETS}/{NAME}/1.0.0/dataset.json", damaged.model_dump_json().encode())
    with pytest.raises(VerificationError, match=message):
        export_version(store, NAME, "latest", format_name, tmp_path / "out")
