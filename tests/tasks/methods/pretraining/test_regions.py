"""Regions are a mask's things and its background; a box has its region's area to the pixel and lies in the image."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.methods.pretraining.regions import (
    ABSENT,
    BACKGROUND,
    box_regions,
    random_box,
    share_patches,
    split_masks,
    surest_things,
)

MASKS = [
    np.array([[0, 1, 1], [255, 3, 0]], np.uint8),
    np.array([[0, 0, 4], [2, 255, 0]], np.uint8),
    np.zeros((2, 3), np.uint8),
]
THINGS = {1, 2, 3}  # 4 is stuff


def test_every_thing_is_a_region_and_ignored_pixels_are_in_none() -> None:
    regions = split_masks(MASKS, THINGS, [{1: 0.5}, {}, {}])
    assert regions.nouns.tolist() == [[BACKGROUND, 1, 3], [BACKGROUND, 2, ABSENT], [BACKGROUND, ABSENT, ABSENT]]
    assert regions.scores.tolist() == [[1, 0.5, 1], [1, 1, 1], [1, 1, 1]]
    assert regions.areas[0, 1].tolist() == [[False, True, True], [False, False, False]]
    assert regions.areas[0, 0].tolist() == [[True, False, False], [False, False, True]]
    assert regions.areas[:, :, 1, 0].any(axis=1).tolist() == [False, True, True]  # ignored in the first alone
    assert not regions.areas[1, 2].any()


def test_the_surest_thing_is_neither_background_nor_absent() -> None:
    regions = split_masks(MASKS, THINGS, [{1: 0.5, 3: 0.75}, {2: 0.25}, {}])
    assert surest_things(regions.nouns, regions.scores).tolist() == [0.75, 0.25, 0]


def test_stuff_is_background() -> None:
    regions = split_masks(MASKS, THINGS, [{}, {}, {}])
    assert regions.areas[1, 0, 0, 2]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32), st.data())
def test_a_box_has_the_area_of_its_region(height: int, width: int, seed: int, data: st.DataObject) -> None:
    area = data.draw(st.integers(0, height * width))
    region = (np.arange(height * width) < area).reshape(height, width)
    box = random_box(region, np.random.default_rng(seed))
    assert box.shape == region.shape
    assert box.sum() == area
    if area:
        rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
        inside = box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert inside[:-1].all()  # a rectangle, but for what is cut off its last row
        assert (np.diff(inside[-1].astype(int)) <= 0).all()


def test_boxes_follow_the_image_and_not_its_place() -> None:
    regions = split_masks(MASKS, THINGS, [{1: 0.5}, {}, {}])
    boxes = box_regions(regions, ["a", "b", "c"])
    alone = box_regions(split_masks(MASKS[1:2], THINGS, [{}]), ["b"])
    assert np.array_equal(boxes.areas[1:2, :2], alone.areas)
    assert (boxes.scores == 1).all()
    assert np.array_equal(boxes.areas[:, 1:].sum((2, 3)), regions.areas[:, 1:].sum((2, 3)))
    assert np.array_equal(boxes.areas[:, 0], ~boxes.areas[:, 1:].any(axis=1))
    many = np.stack([random_box(regions.areas[0, 1], np.random.default_rng(seed)) for seed in range(200)])
    assert many.any(axis=0).all()  # anywhere in the image


def test_shares_of_patches() -> None:
    area = np.zeros((1, 1, 4, 4), bool)
    area[0, 0, :2, :2] = True
    area[0, 0, 2, 3] = True
    assert torch.equal(share_patches(area, 2), torch.tensor([[[1.0, 0.0, 0.0, 0.25]]]))
