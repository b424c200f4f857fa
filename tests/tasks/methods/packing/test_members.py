"""Published members: marked images with untouched pixels, JSON of one shape, columns that augmentation changes."""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tailforge.schemas.tables import AUGMENTED, MASKS, SAMPLES, VERDICTS
from tailforge.tasks.methods.packing.members import (
    AUGMENTED_COLUMNS,
    DIGITAL_SOURCE_TYPES,
    PUBLISHED,
    TRAINED,
    encode_annotations,
    encode_empty_mask,
    encode_jpeg,
    mark_png,
    publish_columns,
    reject_rows,
)

INSTANCE = {
    "slot": "concept",
    "category": "gear",
    "category_id": 1,
    "bbox": [1.0, 2.0, 3.0, 4.0],
    "area": 12,
    "score": 0.9,
    "rle": "04",
    "crowd": False,
}


@pytest.fixture
def png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def row(**changes: Any) -> dict[str, Any]:
    return {
        "sample_id": "a" * 16,
        "concept": "gear",
        "prompt": 'a "gear"',
        "slots": [{"name": "concept", "value": "gear", "start": 3, "end": 7}],
        "seed": 2**62,
        "width": 8,
        "height": 8,
        "status": "ok",
        "instances": [INSTANCE],
        "mask_area": 0.25,
        "mask_confidence": 0.5,
        **changes,
    }


def publish(rows: list[dict[str, Any]], augmented: list[dict[str, Any]] | None = None) -> pa.Table:
    tables = [pa.Table.from_pylist(rows, schema=schema) for schema in (SAMPLES, MASKS, VERDICTS)]
    extra = None if augmented is None else pa.Table.from_pylist(augmented, schema=AUGMENTED).select(AUGMENTED_COLUMNS)
    return publish_columns(*tables, {"hook": 0, "gear": 1}, extra)


def test_a_marked_png_has_the_same_pixels_and_says_that_it_is_synthetic(png: bytes) -> None:
    with Image.open(io.BytesIO(png)) as before, Image.open(io.BytesIO(mark_png(png))) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
        assert DIGITAL_SOURCE_TYPES + TRAINED in after.info["xmp"].decode()


def test_a_jpeg_says_that_it_is_synthetic_and_is_reproducible(png: bytes) -> None:
    data = encode_jpeg(png, 95)
    assert data == encode_jpeg(png, 95)
    assert data != encode_jpeg(png, 20)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (7, 9))
        assert DIGITAL_SOURCE_TYPES + TRAINED in image.info["xmp"].decode()


def test_an_empty_mask_is_background_alone() -> None:
    with Image.open(io.BytesIO(encode_empty_mask(7, 9))) as mask:
        assert (mask.mode, mask.size, mask.getextrema()) == ("P", (7, 9), (0, 0))


def test_annotations_are_canonical_and_without_null() -> None:
    (text,) = encode_annotations(publish([row()]))
    document = json.loads(text)
    assert text == json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert b"null" not in text
    assert document["class_id"] == 1
    assert document["parent_id"] == ""
    assert document["seed"] == 2**62
    assert document["instances"] == [INSTANCE]


def test_annotations_have_one_shape() -> None:
    texts = encode_annotations(publish([row(), row(instances=[]), row(instances=None)]))
    assert len({tuple(json.loads(text)) for text in texts}) == 1
    assert [len(json.loads(text)["instances"]) for text in texts] == [1, 0, 0]


def test_augmentation_in_place_keeps_identity_and_copies_name_their_parent() -> None:
    made = {"width": 4, "height": 4, "instances": [], "mask_area": 0.5, "mask_components": 2, "augmentation": "{}"}
    made |= {"mask_largest_share": 0.75, "sharpness": 7.0, "phash": 5}
    in_place = {"sample_id": "a" * 16, "parent_id": "a" * 16, **made}
    copy = {"sample_id": "b" * 16, "parent_id": "a" * 16, **made}
    rows = publish([row(), row(), row()], [{}, in_place, copy]).to_pylist()
    assert [r["sample_id"] for r in rows] == ["a" * 16, "a" * 16, "b" * 16]
    assert [r["parent_id"] for r in rows] == [None, None, "a" * 16]
    assert [r["mask_area"] for r in rows] == [0.25, 0.5, 0.5]
    assert [r["width"] for r in rows] == [8, 4, 4]
    assert [len(r["instances"]) for r in rows] == [1, 0, 0]
    assert [r["augmentation"] for r in rows] == [None, "{}", "{}"]
    original, changed, copied = rows
    assert [r["mask_components"] for r in (changed, copied)] == [2, 2]
    assert [r["mask_largest_share"] for r in (changed, copied)] == [0.75, 0.75]
    for name in ("mask_confidence", "mask_contrast", "mask_separability", "mask_presence", "mask_agreement"):
        assert changed[name] is copied[name] is None, name
    assert original["mask_confidence"] is not None
    for each in (changed, copied):
        assert (each["sharpness"], each["phash"], each["brightness"]) == (7.0, 5, None)


def test_rejects_carry_the_first_failure() -> None:
    samples = pa.table({"status": ["ok", "failed", "ok"], "error": [None, "blank", None]})
    masks = pa.table({"status": ["ok", "failed", "failed"], "error": [None, "no image", "no map"]})
    rejects = reject_rows(publish([row()] * 3), (samples, masks), ["blur", "failed", "failed"])
    assert rejects["error"].to_pylist() == [None, "blank", "no map"]
    assert rejects["status"].to_pylist() == ["ok", "failed", "failed"]
    assert rejects["reason"].to_pylist() == ["blur", "failed", "failed"]


def test_published_columns_are_the_manifest_without_place() -> None:
    assert publish([row()]).schema == PUBLISHED
