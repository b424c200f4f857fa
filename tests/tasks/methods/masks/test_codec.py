"""Mask files and COCO encodings come back as they went in."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.errors import PictureError
from tailforge.tasks.methods.masks.codec import (
    bound_region,
    decode_mask,
    describe_instance,
    encode_mask,
    encode_rle,
    voc_palette,
)
from tailforge.tasks.methods.packing.png import decode_png, encode_png

# pycocotools with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)


@given(arrays.arrays(np.uint8, SHAPES))
def test_masks_come_back_from_their_png(mask: np.ndarray) -> None:
    assert np.array_equal(decode_mask(encode_mask(mask)), mask)
    assert encode_mask(mask) == encode_mask(mask.copy())


@given(arrays.arrays(np.bool_, SHAPES))
def test_regions_come_back_from_run_lengths(region: np.ndarray) -> None:
    counts = encode_rle(region)
    assert json.loads(json.dumps(counts)) == counts
    assert np.array_equal(decode_rle(counts, *region.shape), region)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_images_come_back_from_their_png(pixels: np.ndarray) -> None:
    assert np.array_equal(decode_png(encode_png(pixels)), pixels)
    assert encode_png(pixels) == encode_png(pixels.copy())


@pytest.mark.parametrize(
    ("region", "counts"),
    [([[0, 0], [0, 0]], "4"), ([[1, 1], [1, 1]], "04"), ([[1, 0], [1, 1]], "021O")],
)
def test_run_lengths_are_column_major_and_begin_with_background(region: list[list[int]], counts: str) -> None:
    # "021O": runs 0, 2, 1, 1; the fourth is written as its difference to the second, -1, which COCO spells "O".
    assert encode_rle(np.array(region, bool)) == counts
    assert decode_rle(counts, 2, 2).tolist() == np.array(region, bool).tolist()


def test_mask_is_an_indexed_image_in_voc_colours() -> None:
    image = Image.open(io.BytesIO(encode_mask(np.array([[0, 1], [2, 255]], np.uint8))))
    assert image.mode == "P"
    assert [image.convert("RGB").getpixel(at) for at in ((0, 0), (1, 0), (0, 1), (1, 1))] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (224, 224, 192),
    ]
    assert len(voc_palette()) == 768


def test_a_colour_image_is_no_mask() -> None:
    with pytest.raises(PictureError, match="mode RGB"):
        decode_mask(encode_png(np.zeros((2, 2, 3), np.uint8)))


def test_boxes_count_pixels() -> None:
    region = np.zeros((5, 7), bool)
    region[1:3, 2:6] = True
    assert bound_region(region) == [2.0, 1.0, 4.0, 2.0]
    assert bound_region(np.ones((1, 1), bool)) == [0.0, 0.0, 1.0, 1.0]


def test_an_instance_is_described_by_its_region() -> None:
    region = np.zeros((4, 6), bool)
    region[0, 0], region[3, 5] = True, True
    found = describe_instance(region, 3, "hook", 0.25, "other", crowd=True)
    assert found["bbox"] == [0.0, 0.0, 6.0, 4.0]
    assert np.array_equal(decode_rle(found["rle"], 4, 6), region)
    assert {name: found[name] for name in ("slot", "category", "category_id", "area", "score", "crowd")} == {
        "slot": "other", "category": "hook", "category_id": 3, "area": 2, "score": 0.25, "crowd": True,
    }  # fmt: skip
