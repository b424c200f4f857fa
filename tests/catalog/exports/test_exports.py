"""Every export is read by its format's own reader and says what the version says: bytes, masks, boxes, names."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from tailforge.catalog.exports.export import FORMATS, export_version
from tailforge.catalog.exports.panoptic import encode_segments
from tailforge.catalog.exports.pieces import WholeFile
from tailforge.catalog.exports.samples import ExportedSample, list_splits, open_split
from tailforge.catalog.exports.voc import voc_palette
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.reading.version import open_version
from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.errors import VerificationError
from tailforge.tasks.methods.masks.codec import Mask, decode_mask, encode_rle
from tailforge.tasks.methods.masks.codec import voc_palette as palette_of_masks
from tests.support.drawn_version import CLASSES, NAME, draw_masks, list_instances, write_version

MASKS = {"train": draw_masks(), "validation": draw_masks()[:2]}
SHORT = {"train": "train", "validation": "val"}


@pytest.fixture(scope="module", params=["png", "jpg"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with dataset `drawn`, of PNGs and of JPEGs."""
    store = Store.open(str(tmp_path_factory.mktemp("drawn")))
    write_version(store, MASKS, request.param)
    return store


def export(store: Store, format_name: str, target: Path, name: str = NAME) -> dict[str, Any]:
    return export_version(store, name, "latest", format_name, target)


def published(store: Store, split: str) -> list[dict[str, Any]]:
    """Samples as the version's reader gives them, with `values`, the mask."""
    samples = open_dataset(store.uri, split=split, name=NAME, decode=False)
    return [sample | {"values": decode_mask(sample["mask"])} for sample in samples]


def test_coco_is_read_by_pycocotools(store: Store, tmp_path: Path) -> None:
    export(store, "coco", tmp_path / "coco")
    for split in MASKS:
        coco = COCO(tmp_path / f"coco/annotations/instances_{split}.json")
        samples = published(store, split)
        assert [category["name"] for category in coco.loadCats([1, 2, 3])] == list(CLASSES)
        for image, sample in zip(coco.loadImgs(sorted(coco.imgs)), samples, strict=True):
            mask = sample["values"]
            assert Path(image["file_name"]).stem == sample["key"]
            assert (image["height"], image["width"]) == mask.shape
            rows = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
            assert len(rows) == len(list_instances(mask))
            for row, expected in zip(rows, list_instances(mask), strict=True):
                region = coco.annToMask(row)
                assert (region == rle.decode({"counts": expected["rle"], "size": mask.shape})).all()
                assert row["bbox"] == list(rle.toBbox(coco.annToRLE(row)))
                assert (row["area"], row["iscrowd"]) == (region.sum(), expected["crowd"])
            assert (join_regions(coco, rows, mask) == np.where(mask == 255, 0, mask)).all()


def join_regions(coco: COCO, rows: list[dict[str, Any]], mask: Mask) -> Mask:
    """The mask that annotations make together."""
    joined = np.zeros_like(mask)
    for row in rows:
        joined[coco.annToMask(row) == 1] = row["category_id"]
    return joined


def test_coco_has_the_captions_under_the_same_image_ids(store: Store, tmp_path: Path) -> None:
    export(store, "coco", tmp_path / "coco")
    captions = COCO(tmp_path / "coco/annotations/captions_train.json")
    instances = COCO(tmp_path / "coco/annotations/instances_train.json")
    assert captions.imgs == instances.imgs
    for sample, number in zip(published(store, "train"), sorted(captions.imgs), strict=True):
        assert captions.imgs[number]["file_name"].startswith(sample["key"])
        assert [row["caption"] for row in captions.imgToAnns[number]] == [sample["caption"]]


@pytest.mark.parametrize("format_name", ["coco", "panoptic"])
def test_image_ids_do_not_depend_on_the_splits_that_are_exported(
    store: Store, tmp_path: Path, format_name: str
) -> None:
    document = {"coco": "instances_validation.json", "panoptic": "panoptic_validation.json"}[format_name]
    export(store, format_name, tmp_path / "all")
    export_version(store, NAME, "1.0.0", format_name, tmp_path / "one", ["validation", "validation"])
    found = [json.loads((tmp_path / name / "annotations" / document).read_text()) for name in ("all", "one")]
    assert found[0]["images"] == found[1]["images"]
    assert [image["id"] for image in found[0]["images"]] == [6, 7]
    assert [path.name for path in (tmp_path / "one/images").iterdir()] == ["validation"]


def test_panoptic_obeys_the_rules_of_its_evaluation(store: Store, tmp_path: Path) -> None:
    export(store, "panoptic", tmp_path / "panoptic")
    for split in MASKS:
        document = json.loads((tmp_path / f"panoptic/annotations/panoptic_{split}.json").read_text())
        categories = {category["id"]: category for category in document["categories"]}
        assert [c["name"] for c in categories.values() if c["isthing"]] == list(CLASSES)
        images = {image["id"]: image for image in document["images"]}
        for row, sample in zip(document["annotations"], published(store, split), strict=True):
            assert images[row["image_id"]]["file_name"].startswith(sample["key"])
            ids = read_segments(tmp_path / f"panoptic/annotations/panoptic_{split}" / row["file_name"])
            segments = {segment["id"]: segment for segment in row["segments_info"]}
            assert len(segments) == len(row["segments_info"])
            assert set(np.unique(ids)) - {0} == set(segments)
            for number, segment in segments.items():
                assert segment["area"] == (ids == number).sum()
                assert segment["iscrowd"] == (segment["category_id"] == 3)
                assert segment["bbox"] == list(rle.toBbox(rle.encode(np.asfortranarray(ids == number, np.uint8))))
            assert (read_panoptic(ids, segments, categories) == sample["values"]).all()
            assert count_things(segments, categories) == len(list_instances(sample["values"]))


def read_segments(path: Path) -> np.ndarray[Any, Any]:
    """Segment ids as panopticapi decodes them."""
    with Image.open(path) as image:
        red, green, blue = np.moveaxis(np.asarray(image, np.uint32), -1, 0)
    return red + 256 * green + 256**2 * blue


def read_panoptic(ids: Any, segments: dict[int, Any], categories: dict[int, Any]) -> Mask:
    """The version's mask again: void is 255, stuff is 0."""
    mask = np.full(ids.shape, 255, np.uint8)
    for number, segment in segments.items():
        category = segment["category_id"]
        mask[ids == number] = category if categories[category]["isthing"] else 0
    return mask


def count_things(segments: dict[int, Any], categories: dict[int, Any]) -> int:
    return sum(categories[segment["category_id"]]["isthing"] for segment in segments.values())


def test_panoptic_ids_use_all_three_channels(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255], [256, 65536, 2**24 - 1]], np.uint32)
    (tmp_path / "ids.png").write_bytes(encode_segments(ids))
    assert (read_segments(tmp_path / "ids.png") == ids).all()


def test_yolo_boxes_are_those_of_the_instances(store: Store, tmp_path: Path) -> None:
    export(store, "yolo", tmp_path / "yolo")
    card = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert card["names"] == dict(enumerate(CLASSES))
    assert set(card) == {"train", "val", "names"}
    for split in MASKS:
        images = tmp_path / "yolo" / card[SHORT[split]]
        assert sorted(path.stem for path in images.iterdir()) == [s["key"] for s in published(store, split)]
        for sample in published(store, split):
            labels = Path(str(images).replace("/images/", "/labels/")) / f"{sample['key']}.txt"
            found = [parse_yolo(line, *sample["values"].shape) for line in labels.read_text().splitlines()]
            expected = [row for row in list_instances(sample["values"]) if not row["crowd"]]
            assert [name for name, _ in found] == [row["category_id"] - 1 for row in expected]
            for (_, box), row in zip(found, expected, strict=True):
                np.testing.assert_allclose(box, row["bbox"], atol=1e-3)


def parse_yolo(line: str, height: int, width: int) -> tuple[int, list[float]]:
    """Class, and COCO box in pixels."""
    name, x, y, w, h = line.split(" ")
    w, h = float(w) * width, float(h) * height  # type: ignore[assignment]
    return int(name), [float(x) * width - w / 2, float(y) * height - h / 2, w, h]  # type: ignore[operator, list-item]


def test_voc_masks_and_boxes_are_those_of_the_version(store: Store, tmp_path: Path) -> None:
    export(store, "voc", tmp_path / "voc")
    assert (tmp_path / "voc/labels.txt").read_text().splitlines() == ["background", *CLASSES]
    for split in MASKS:
        keys = [sample["key"] for sample in published(store, split)]
        for purpose in ("Segmentation", "Main"):
            listed = (tmp_path / f"voc/ImageSets/{purpose}/{SHORT[split]}.txt").read_text()
            assert listed == "".join(f"{key}\n" for key in keys)
        for sample in published(store, split):
            with Image.open(tmp_path / f"voc/SegmentationClass/{sample['key']}.png") as mask:
                assert mask.mode == "P"
                assert bytes(mask.getpalette() or []) == palette_of_masks()
                assert (np.asarray(mask) == sample["values"]).all()
            root = ElementTree.parse(tmp_path / f"voc/Annotations/{sample['key']}.xml").getroot()
            assert (tmp_path / "voc/JPEGImages" / (root.findtext("filename") or "")).is_file()
            assert (int(root.findtext("size/height") or 0), int(root.findtext("size/width") or 0)) == mask.size[::-1]
            expected = [(row["category"], row["bbox"], row["crowd"]) for row in list_instances(sample["values"])]
            assert [parse_voc(element) for element in root.findall("object")] == expected


def parse_voc(element: ElementTree.Element) -> tuple[str, list[float], bool]:
    """Class, COCO box of corners that count from 1 and are inside, and whether evaluations leave it out."""
    left, top, right, bottom = (int(element.findtext(f"bndbox/{n}") or 0) for n in ("xmin", "ymin", "xmax", "ymax"))
    box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
    return element.findtext("name") or "", box, element.findtext("difficult") == "1"


def test_voc_masks_are_the_published_files_where_they_have_its_colours(store: Store, tmp_path: Path) -> None:
    export(store, "voc", tmp_path / "voc")
    for sample in published(store, "train"):
        same = (tmp_path / f"voc/SegmentationClass/{sample['key']}.png").read_bytes() == sample["mask"]
        assert same == sample["values"].any()


@pytest.mark.parametrize("format_name", [*FORMATS, "huggingface"])
def test_a_version_published_before_crowds_is_read_and_exported(tmp_path: Path, format_name: str) -> None:
    older, newer = (Store.open(str(tmp_path / name), create=True) for name in ("older", "newer"))
    for store, crowds in ((older, False), (newer, True)):
        write_version(store, MASKS, crowds=crowds)
    (finding,) = verify(older, NAME)
    assert "rejects.parquet is missing" in finding.problem  # the manifest is read before it
    row = open_version(older, NAME).read_row("manifest", published(older, "train")[0]["key"])
    assert row is not None
    assert {"crowd"} | set(row["instances"][0]) == set(list_instances(MASKS["train"][0])[0])
    export(older, format_name, tmp_path / "out")
    if format_name == "coco":
        annotations = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["annotations"]
        assert {each["iscrowd"] for each in annotations} == {0}


@pytest.mark.parametrize("format_name", FORMATS)
def test_images_are_the_bytes_that_the_shards_hold(store: Store, tmp_path: Path, format_name: str) -> None:
    made = export(store, format_name, tmp_path / "out")
    folders = [tmp_path / "out" / name for name in ("images", "JPEGImages", *MASKS)]
    found = {path.stem: path for folder in folders for path in folder.rglob("*.[jp][pn]g")}
    samples = [sample for split in MASKS for sample in published(store, split)]
    assert {key: path.read_bytes() for key, path in found.items()} == {s["key"]: s["image"] for s in samples}
    assert {path.suffix[1:] for path in found.values()} <= set(load_dataset(store, NAME).fields)
    assert made["splits"] == {"train": 5, "validation": 2}


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_export_is_the_same_each_time_and_counted(store: Store, tmp_path: Path, format_name: str) -> None:
    made = export(store, format_name, tmp_path / "first")
    export(store, format_name, tmp_path / "second")
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "first", tmp_path / "second")
    )
    assert first == second
    assert (made["files"], made["bytes"]) == (len(first), sum(map(len, first.values())))


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_format_holds_one_sample_at_a_time(store: Store, format_name: str) -> None:
    dataset, taken, written = load_dataset(store, NAME), 0, 0

    def watch(samples: Iterator[ExportedSample]) -> Iterator[ExportedSample]:
        nonlocal taken
        for sample in samples:
            taken += 1
            assert taken == written + 1
            yield sample

    splits = {split: watch(open_split(store, dataset, split)) for split in list_splits(dataset)}
    for piece in FORMATS[format_name](dataset, splits):
        written += isinstance(piece, WholeFile) and piece.path.startswith(
            ("images/", "JPEGImages/", *(f"{split}/" for split in MASKS))
        )
    assert taken == written == 7


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_run_lengths_are_read_as_pycocotools_writes_them(region: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    assert (decode_rle(encode_rle(region), *region.shape) == region).all()


def test_long_runs_are_read_too() -> None:
    region = np.zeros((700, 900), np.bool_)
    region[100:650, 200] = region[3, 700] = region[:, 800:850] = True
    assert (decode_rle(encode_rle(region), *region.shape) == region).all()


@pytest.mark.parametrize("counts", ["", "1", "04", "3O"])
def test_run_lengths_of_another_image_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="runs of"):
        decode_rle(counts, 2, 1)


def test_a_mask_of_another_size_than_its_image_is_refused(store: Store) -> None:
    sample = next(open_split(store, load_dataset(store, NAME), "train"))
    with pytest.raises(VerificationError, match=rf"sample {sample.key} .* it has \(14, 9\) pixels"):
        replace(sample, width=15).open_mask()


def test_colours_are_those_of_published_masks() -> None:
    assert bytes(voc_palette()) == palette_of_masks()
