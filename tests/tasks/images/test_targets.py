"""Targets of an evaluation: masks of COCO files, borders of padded images, and labels."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailforge.catalog.images.reader import open_images
from tailforge.schemas.errors import ImagesError
from tailforge.tasks.images.targets import Format, LabelReader, MaskReader, match_classes


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A COCO file of a picture with a square of crack, and of one without objects; 8 wide, 4 high."""
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((4, 8), np.uint8)).save(tmp_path / name)
    square = [2, 0, 5, 0, 5, 3, 2, 3]
    told = {
        "images": [{"id": n, "file_name": name, "width": 8, "height": 4} for n, name in enumerate(("a.png", "b.png"))],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 7, "segmentation": [square], "bbox": [2, 0, 4, 4]}],
        "categories": [{"id": 3, "name": "star"}, {"id": 7, "name": "crack"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(told))
    return tmp_path / "coco.json"


def test_coco_names_the_classes_and_an_image_without_objects_is_background(coco: Path) -> None:
    images = open_images(coco)
    reader = MaskReader()
    classes = reader.name_classes({"train": images})
    assert classes == ("background", "star", "crack")
    masks = reader.read(images, classes, None, Format((4, 8), 1, "exact"))
    assert (masks[0][:4, 2:6] == 2).all()
    assert (masks[0] == 2).sum() == 16
    assert (masks[1] == 0).all()
    with pytest.raises(ImagesError, match="names the values of its masks itself: star, crack; leave --mask-classes"):
        MaskReader(("crack",)).name_classes({"train": images})


def test_borders_of_a_padded_image_are_ignored(coco: Path) -> None:
    reader, images = MaskReader(), open_images(coco)
    masks = reader.read(images, reader.name_classes({"train": images}), None, Format((8, 8), 1, "pad"))
    assert (masks[:, :2] == 255).all()
    assert (masks[:, 6:] == 255).all()
    assert not (masks[:, 2:6] == 255).any()
    stretched = reader.read(images, ("background", "star", "crack"), None, Format((8, 8), 1, "stretch"))
    assert not (stretched == 255).any()


def test_labels_are_numbers_of_the_classes(tmp_path: Path) -> None:
    for place, name in enumerate(("Gear", "hook", "hook")):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name / f"{place}.png")
    images, reader = open_images(tmp_path), LabelReader()
    assert reader.name_classes({"train": images}) == ("Gear", "hook")
    assert reader.read(images, ("hook", "gear"), None, Format((4, 4), 1, "exact")).tolist() == [1, 0, 0]
    assert reader.keep(images, ["HOOK"]).labels == ("hook", "hook")


def test_a_pair_comes_before_the_own_name_and_needs_a_class() -> None:
    assert match_classes(["a", "b"], ["a", "b"], {"a": "B"}, "v") == {"a": 1, "b": 1}
    with pytest.raises(ImagesError, match="v shows 'a', which is no class of the real images: a, b"):
        match_classes(["a"], ["a", "b"], {"a": "c"}, "v")
