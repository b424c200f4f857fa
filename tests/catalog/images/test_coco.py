"""COCO files: boxes, masks from polygons and run lengths, usual places of the images, and every way to be wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from tailforge.catalog.exports.export import export_version
from tailforge.catalog.images.reader import open_images
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ImagesError
from tests.support.drawn_version import CLASSES, NAME, draw_masks, write_version
from tests.support.image_files import put, red_of

SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]  # corners of columns 1 to 3 and rows 1 to 3
GEAR, HOOK = {"id": 7, "name": "gear"}, {"id": 3, "name": "hook"}


def document(**changes: Any) -> dict[str, Any]:
    images = [{"id": number, "file_name": f"{number}.png", "width": 6, "height": 4} for number in (1, 2, 3)]
    annotations = [
        {"image_id": 1, "category_id": 7, "bbox": [1, 1, 2.5, 3], "segmentation": [SQUARE], "iscrowd": 0},
        {"image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 1]},
        {"image_id": 2, "category_id": 3, "bbox": [0, 0, 6, 4], "segmentation": {"counts": [4, 8, 12], "size": [4, 6]}},
        {"image_id": 2, "category_id": 7, "bbox": [1, 0, 1, 1], "segmentation": {"counts": [5, 1, 18], "size": [4, 6]}},
    ]
    return {"images": images, "annotations": annotations, "categories": [GEAR, HOOK], **changes}


def write(file: Path, **changes: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document(**changes)))
    return file


def put_images(folder: Path) -> None:
    for number in (1, 2, 3):
        put(folder / f"{number}.png", number)


def test_boxes_masks_and_labels(tmp_path: Path) -> None:
    put_images(tmp_path)
    images = open_images(write(tmp_path / "all.json"))
    assert images.ids == ("1.png", "2.png", "3.png")
    assert [category.name for category in images.found.categories] == ["hook", "gear"]
    assert images.labels == ("gear", None, None)
    assert [(each.category, each.value, each.box) for each in images[0].instances] == [
        ("gear", 2, (1, 1, 2.5, 3)),
        ("gear", 2, (0, 0, 1, 1)),
    ]
    square = np.zeros((4, 6), np.uint8)
    square[1:4, 1:4] = 2
    assert np.array_equal(images[0].read_mask(), square)
    striped = np.zeros((4, 6), np.uint8)
    striped[:, 1:3] = 1
    striped[1, 1] = 2  # the smaller object covers the larger one
    assert np.array_equal(images[1].read_mask(), striped)
    assert images[2].read_mask() is None
    with pytest.raises(ImagesError, match=r"no label: .*2\.png, .*3\.png; keep images whose objects are of one"):
        images.require_labels()
    assert images.with_labels().ids == ("1.png",)


def test_compressed_run_lengths_and_crowds(tmp_path: Path) -> None:
    put_images(tmp_path)
    region = np.random.default_rng(0).random((4, 6)) < 0.5
    counts = coco.encode(np.asfortranarray(region, np.uint8))["counts"].decode()
    one = {"image_id": 1, "category_id": 7, "segmentation": {"counts": counts, "size": [4, 6]}, "iscrowd": 1}
    images = open_images(write(tmp_path / "all.json", annotations=[one]))
    assert np.array_equal(images[0].read_mask(), np.where(region, 255, 0))
    (instance,) = images[0].instances
    assert instance.crowd
    assert instance.region is not None
    assert np.array_equal(instance.region(), region)


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("all.json", "."),
        ("all.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_test.json", "images/test"),
        ("annotations/all.json", "images"),
    ],
)
def test_images_are_found_in_their_usual_places(tmp_path: Path, file: str, folder: str) -> None:
    put_images(tmp_path / "set" / folder)
    images = open_images(write(tmp_path / "set" / file))
    assert [red_of(data) for data in images.stream()] == [1, 2, 3]
    elsewhere = open_images(write(tmp_path / "other.json"), root=tmp_path / "set" / folder)
    assert elsewhere.ids == images.ids


@pytest.mark.parametrize(
    ("layout", "splits"),
    [
        ("{split}/_annotations.coco.json {split}", ("train", "valid")),
        ("annotations/instances_{split}2017.json {split}2017", ("train", "val")),
    ],
)
def test_a_folder_of_coco_files_has_splits(tmp_path: Path, layout: str, splits: tuple[str, str]) -> None:
    for split in splits:
        file, folder = layout.format(split=split).split()
        put_images(tmp_path / folder)
        write(tmp_path / file)
    put(tmp_path / "forgotten.png")
    images = open_images(tmp_path)
    assert len(images) == 6
    assert len(images.of_split("train")) == len(images.of_split("validation")) == 3
    assert "image that no annotation names: 1" in images.left_out.describe()
    part = images.of_split("val")
    assert [red_of(data) for data in part.stream()] == [1, 2, 3]
    assert [len(record.instances) for record in part] == [2, 2, 0]
    assert part[1].read_mask() is not None


def test_a_version_is_the_same_read_from_its_coco_export(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    write_version(store, {"train": draw_masks(), "test": draw_masks()[:1]})
    export_version(store, NAME, "1.0.0", "coco", tmp_path / "coco")
    exported = open_images(tmp_path / "coco").of_split("train")
    published = open_images(f"{NAME}@1.0.0", store=store.uri).of_split("train")
    assert tuple(category.name for category in exported.found.categories) == CLASSES
    assert list(exported.stream()) == list(published.stream())
    for ours, theirs in zip(exported, published, strict=True):
        assert [(each.category, each.value, each.box, each.score) for each in ours.instances] == [
            (each.category, each.value, each.box, each.score) for each in theirs.instances
        ]
        mask, expected = ours.read_mask(), theirs.read_mask()
        assert expected is not None
        drawn = np.zeros(expected.shape) if mask is None else mask
        known = np.where(expected == 255, 0, expected)  # COCO knows no ignored pixels
        crowds = [each.value for each in theirs.instances if each.crowd]
        assert np.array_equal(drawn, np.where(np.isin(known, crowds), 255, known))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "names no image"),
        ({"images": [{"id": 1}]}, r"cannot be read as COCO: images\.0\.file_name: Field required"),
        ({"images": [{"id": 1, "file_name": "1.png"}] * 2}, "gives two images one id"),
        ({"categories": [GEAR, GEAR]}, "gives two categories one id"),
        ({"categories": [GEAR]}, "annotates category 3, which it does not name"),
        ({"annotations": [{"image_id": 9, "category_id": 7}]}, "annotates image 9, which it does not name"),
        ({"images": [{"id": 1, "file_name": "no.png"}], "annotations": []}, r"no image .*no\.png is no file"),
        ({"images": [{"id": 1, "file_name": "../1.png"}], "annotations": []}, r"no image .*1\.png leaves"),
    ],
)
def test_files_that_cannot_be_used_give_one_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    put_images(tmp_path)
    with pytest.raises(ImagesError, match=message):
        open_images(write(tmp_path / "all.json", **changes))


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"images": 3}', b"[" * 100_000, b"\xff"])
def test_a_file_that_is_no_coco_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ImagesError, match=r"a\.json cannot be read as COCO: .*; give a JSON file with images"):
        open_images(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"counts": [1, 2], "size": [4, 6]}, r"1\.png cannot be used: runs of 3 pixels for an image of 24"),
        ({"counts": "~", "size": [4, 6]}, r"1\.png cannot be used: '~' is no part of a run length"),
        ([[1, 2, 3, 4]], r"1\.png cannot be used: a polygon of 4 numbers"),
    ],
)
def test_a_region_that_cannot_be_drawn_is_named(tmp_path: Path, segmentation: Any, message: str) -> None:
    put_images(tmp_path)
    one = {"image_id": 1, "category_id": 7, "segmentation": segmentation}
    images = open_images(write(tmp_path / "all.json", annotations=[one]))
    with pytest.raises(ImagesError, match=message):
        images[0].read_mask()
