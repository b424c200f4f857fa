"""Images of a version with the regions that each arm gives them, and what a user is told where that cannot be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.versions import open_version_images
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ImagesError, NotFoundError
from tailforge.tasks.images.masked import MaskedImages, open_masked, require_fit
from tailforge.tasks.methods.masks.codec import Mask, encode_mask
from tests.support.drawn_version import CLASSES, NAME, write_version
from tests.support.fabricate import encode_png

SIDE = 12
KEYS = [f"{int.from_bytes(b'trai', 'big') << 16 | number:016x}" for number in range(6)]


def draw_masks() -> list[Mask]:
    """Two classes at changing places, some pixels ignored; the third shows nothing."""
    masks = [np.zeros((SIDE, SIDE), np.uint8) for _ in range(6)]
    for number, mask in enumerate(masks):
        mask[number : number + 3, 2:8] = 1 + number % 2
        mask[0, :] = 255
    masks[2][:] = 0
    return masks


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(str(tmp_path_factory.mktemp("store")), create=True)
    write_version(store, {"train": draw_masks(), "test": [np.zeros((SIDE, SIDE), np.uint8)]})
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Masks of a user's own: the left half is class 3."""
    own = np.zeros((SIDE, SIDE), np.uint8)
    own[:, : SIDE // 2] = 3
    for key in KEYS:
        (tmp_path / f"{key}.png").write_bytes(encode_mask(own))
    return tmp_path


def opened(store: Store, masks: str, **changes: Any) -> MaskedImages:
    arguments = {"name": NAME, "version": "latest", "split": "train", "masks": masks} | changes
    images = open_version_images(store.uri, arguments.pop("name"), arguments.pop("version"))
    return open_masked(images, **arguments)


def test_the_versions_own_masks(store: Store) -> None:
    images = opened(store, "attention")
    assert (images.origin, images.masks, images.nouns) == (f"{NAME}@1.0.0 (train)", "attention", CLASSES)
    assert images.pixels.shape == (6, SIDE, SIDE, 3)
    assert images.captions[1] == "train 1"
    assert images.regions is not None
    for number, mask in enumerate(draw_masks()):
        noun = 1 + number % 2
        shown = number != 2
        assert images.regions.nouns[number].tolist() == [0, noun if shown else -1]
        assert np.array_equal(images.regions.areas[number, 1], mask == noun)
        assert images.regions.scores[number].tolist() == [1.0, 0.75 if shown else 1.0]
        assert np.array_equal(images.regions.areas[number, 0], mask == 0)


def test_boxes_have_the_areas_of_the_masks_and_no_confidence(store: Store) -> None:
    boxes, masks = opened(store, "box").regions, opened(store, "attention").regions
    assert boxes is not None
    assert masks is not None
    assert np.array_equal(boxes.areas[:, 1].sum((1, 2)), masks.areas[:, 1].sum((1, 2)))
    assert not np.array_equal(boxes.areas[:, 1], masks.areas[:, 1])
    assert (boxes.scores == 1).all()
    some = opened(store, "box", images=3).regions
    assert some is not None
    assert {area.tobytes() for area in some.areas[:, 1]} <= {area.tobytes() for area in boxes.areas[:, 1]}


def test_masks_of_a_users_own(store: Store, folder: Path) -> None:
    images = opened(store, str(folder))
    assert images.masks == folder.name
    assert images.regions is not None
    assert images.regions.nouns.tolist() == [[0, 3]] * 6
    assert (images.regions.scores == 1).all()
    assert images.regions.areas[:, 1, :, : SIDE // 2].all()


def test_without_masks_there_are_no_regions(store: Store) -> None:
    assert opened(store, "none").regions is None
    assert opened(store, "none", split="test").pixels.shape == (1, SIDE, SIDE, 3)


def test_so_many_images_are_taken_by_lot(store: Store) -> None:
    few = [opened(store, "none", images=3, seed=seed).captions for seed in (0, 0, 1, 2, 3)]
    assert len(few[0]) == 3
    assert few[0] == few[1]
    assert len(set(few)) > 1


def test_stuff_is_no_region(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    dataset = write_version(store, {"train": draw_masks()})
    path = f"datasets/{NAME}/1.0.0/dataset.json"
    categories = [{"name": "gear", "thing": True}, {"name": "bench", "thing": False}]
    changed = dataset.model_dump(mode="json") | {"categories": categories, "classes": ["gear"]}
    store.write_bytes(path, type(dataset).model_validate(changed).model_dump_json().encode())
    images = opened(store, "attention")
    assert images.nouns == ("gear", "bench")
    assert images.regions is not None
    assert images.regions.nouns[:, 1].tolist() == [1, -1, -1, -1, 1, -1]
    assert images.regions.areas[1, 0][1:].all()  # the bench is background


def break_mask(folder: Path, what: str) -> None:
    file, mask = folder / f"{KEYS[3]}.png", np.zeros((SIDE, SIDE), np.uint8)
    if what == "missing":
        file.unlink()
    elif what == "broken":
        file.write_bytes(b"not a picture")
    elif what == "size":
        file.write_bytes(encode_mask(mask[:5]))
    elif what == "value":
        file.write_bytes(encode_mask(mask + 9))
    elif what == "empty":
        for key in KEYS:
            (folder / f"{key}.png").write_bytes(encode_mask(mask))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", rf"has no mask {KEYS[3]}\.png; it needs one for every sample"),
        (
            "broken",
            rf"{KEYS[3]}\.png cannot be read as a mask: .*indexed PNG \(0 for background, 1 upwards",
        ),
        ("size", rf"{KEYS[3]}\.png is 12 x 5 pixels \(width x height\), its image 12 x 12"),
        ("value", rf"{KEYS[3]}\.png holds the value 9, which is no category; write 0 for background, 1 to 3 for categ"),
        ("empty", "no mask of .* shows a thing; give images with masks, or --masks none"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named(store: Store, folder: Path, what: str, message: str) -> None:
    break_mask(folder, what)
    with pytest.raises(ImagesError, match=message):
        opened(store, str(folder))


def test_what_is_not_there_is_named(store: Store) -> None:
    for changes, message in (
        ({"masks": "atention"}, "--masks 'atention' is no folder; give attention, none, box, or a folder"),
        ({"split": "holdout"}, "has no split 'holdout'; it has: test, train"),
        ({"name": "tools"}, "tools"),
        ({"version": "9.9.9"}, r"9\.9\.9"),
    ):
        with pytest.raises(NotFoundError, match=message):
            opened(store, **({"masks": "none"} | changes))
    with pytest.raises(ImagesError, match="the split has 6 images, --images requests 7"):
        opened(store, "none", images=7)
    with pytest.raises(ImagesError, match=r"no mask of drawn@1\.0\.0 \(test\) shows a thing"):
        opened(store, "box", split="test")


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    for name, shapes in (("sizes", [(12, 12), (8, 8)]), ("wide", [(8, 12)])):
        store = Store.open(str(tmp_path / name), create=True)
        write_version(store, {"train": [np.ones(shape, np.uint8) for shape in shapes]})
        with pytest.raises(ImagesError, match="pre-training needs square images of one size"):
            opened(store, "none")


def test_batches_and_patches_must_fit(store: Store) -> None:
    images = opened(store, "none")
    require_fit(images, batch=6, patch_px=4)
    with pytest.raises(ImagesError, match="has 6 images, a batch has 7; lower --batch"):
        require_fit(images, batch=7, patch_px=4)
    for patch_px in (8, 12, 64):
        with pytest.raises(ImagesError, match=f"are 12 pixels wide, patches {patch_px}; set patch_px to a number that"):
            require_fit(images, batch=2, patch_px=patch_px)


def test_the_fixture_reads_as_a_version(store: Store) -> None:
    assert [sample["key"] for sample in open_dataset(store.uri, name=NAME)] == KEYS


def test_masks_of_a_table_and_of_a_coco_file(tmp_path: Path) -> None:
    """Values of a table's masks are named by their numbers, those of a COCO file by its categories."""
    pixels = np.full((SIDE, SIDE, 3), 90, np.uint8)
    masks = draw_masks()[:2]
    files = [encode_mask(mask) for mask in masks]
    image = encode_png(pixels)
    pq.write_table(pa.table({"image": [image] * 3, "mask": [*files, None]}), tmp_path / "a.parquet")
    images = open_masked(open_images(tmp_path / "a.parquet"), "train", "attention")
    assert (images.nouns, images.captions) == (("1", "2"), ("", "", ""))
    assert images.regions is not None
    assert images.regions.nouns.tolist() == [[0, 1], [0, 2], [0, -1]]
    assert np.array_equal(images.regions.areas[1, 1], masks[1] == 2)

    (tmp_path / "a.png").write_bytes(image)
    square = {"image_id": 1, "category_id": 5, "segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]], "score": 0.5}
    told = {
        "images": [{"id": 1, "file_name": "a.png", "width": SIDE, "height": SIDE}],
        "annotations": [square],
        "categories": [{"id": 5, "name": "gear"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(told))
    images = open_masked(open_images(tmp_path / "a.json"), "train", "attention")
    assert (images.nouns, images.captions) == (("gear",), ("a photo of a gear",))
    assert images.regions is not None
    assert images.regions.scores[0].tolist() == [1.0, 0.5]
    assert int(images.regions.areas[0, 1].sum()) == 16


def test_a_mask_of_another_size_than_its_image_is_named(tmp_path: Path) -> None:
    image = encode_png(np.zeros((SIDE, SIDE, 3), np.uint8))
    pq.write_table(pa.table({"image": [image], "mask": [encode_mask(draw_masks()[0][:5])]}), tmp_path / "a.parquet")
    with pytest.raises(ImagesError, match=r"mask of .*row 0 does not fit its image: its size is 12 x 5, .* 12 x 12"):
        open_masked(open_images(tmp_path / "a.parquet"), "train", "attention")
