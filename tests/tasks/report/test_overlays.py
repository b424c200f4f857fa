"""Thumbnails and mask overlays of the report."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from tailforge.schemas.errors import PictureError
from tailforge.tasks.methods.masks.codec import encode_rle
from tailforge.tasks.report.overlays import (
    AROUND,
    OVERLAY_PX,
    draw_overlay,
    has_ignored,
    list_crowds,
    outline,
    show_colour,
    shrink_image,
)


def _encode(array: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    out = BytesIO()
    Image.fromarray(array).save(out, kind)
    return out.getvalue()


def _rgba(data: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA"))


def test_outline_is_the_inner_rim_and_spares_the_image_border() -> None:
    labels = np.zeros((6, 7), np.uint8)
    labels[:5, :4] = 3
    expected = np.array(["...#...", "...#...", "...#...", "...#...", "####...", "......."])
    assert np.array_equal(outline(labels, width=1), np.array([[c == "#" for c in row] for row in expected]))


def test_outline_parts_two_touching_regions() -> None:
    labels = np.array([[1, 1, 1, 2, 2, 2]], np.uint8)
    assert outline(labels, width=1).tolist() == [[False, False, True, True, False, False]]
    assert outline(labels, width=2).tolist() == [[False, True, True, True, True, False]]


@given(
    hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 1, 2, 255])
    )
)
def test_overlay_dims_the_background_alone(labels: NDArray[np.uint8]) -> None:
    overlay = _rgba(draw_overlay(_encode(labels)))
    factor = overlay.shape[0] // labels.shape[0]
    enlarged = labels.repeat(factor, axis=0).repeat(factor, axis=1)
    assert overlay.shape[:2] == enlarged.shape
    black = (overlay[..., :3] == 0).all(axis=2) & (overlay[..., 3] > 0)
    grey = (overlay[..., :3] == 128).all(axis=2)
    assert np.array_equal(black, enlarged == 0)
    assert np.array_equal(grey, enlarged == 255)


def test_stuff_is_tinted_and_only_things_are_outlined() -> None:
    labels = np.array([[1, 1, 3, 3, 0, 0]] * 6, np.uint8)
    overlay = _rgba(draw_overlay(_encode(labels), stuff=[3]))
    factor = overlay.shape[1] // 6
    middle = overlay[overlay.shape[0] // 2]
    assert (middle[2 * factor : 4 * factor] == middle[2 * factor]).all()
    assert middle[2 * factor].tolist()[2:] == [255, 96]
    assert middle[2 * factor - 1].tolist() == [255, 0, 168, 255]
    assert middle[factor // 2, 3] == 0


def test_a_crowd_is_outlined_and_hatched_in_a_colour_of_its_own() -> None:
    """Two things of one category; the right one is a crowd. The mask may be enlarged or shrunk."""
    for side in (12, 1024):
        labels = np.zeros((side, side), np.uint8)
        labels[side // 4 : -side // 4, side // 6 : -side // 6] = 1
        labels[:, side // 2 - side // 12 : side // 2 + side // 12] = 0
        crowd = (labels == 1) & (np.arange(side) > side // 2)
        overlay = _rgba(draw_overlay(_encode(labels), crowds=[encode_rle(crowd)]))
        middle = overlay.shape[1] // 2
        orange = (overlay == (255, 170, 0, 255)).all(axis=2)
        magenta = (overlay == (255, 0, 168, 255)).all(axis=2)
        assert not orange[:, :middle].any()
        assert magenta[:, :middle].any()
        assert not magenta[:, middle:].any()

        # Lines cross the inside, which is clear between them. Beside the crowd there is none.
        clear = (overlay[..., 3] == 0)[:, middle:]
        assert clear.any()
        assert 1.5 * magenta.sum() < orange.sum() < clear.sum()


def test_run_lengths_that_do_not_fit_the_mask_are_refused() -> None:
    with pytest.raises(PictureError, match="do not fit its mask: runs of 4 pixels for an image of 16"):
        draw_overlay(_encode(np.ones((4, 4), np.uint8)), crowds=["04"])


def test_only_crowds_among_instances_are_listed() -> None:
    assert list_crowds([{"rle": "a", "crowd": True}, {"rle": "b", "crowd": False}, {"rle": "c"}]) == ["a"]
    assert list_crowds(None) == []


def test_ignored_pixels_are_found() -> None:
    labels = np.zeros((4, 4), np.uint8)
    assert not has_ignored(_encode(labels))
    labels[3, 0] = 255
    assert has_ignored(_encode(labels))


def test_a_colour_is_that_of_the_overlay() -> None:
    assert show_colour(AROUND) == "rgb(0 90 255 / 38%)"  # 96 of 255


def test_overlay_of_a_large_mask_is_made_smaller() -> None:
    mask = np.zeros((1024, 512), np.uint8)
    mask[:512] = 7
    overlay = _rgba(draw_overlay(_encode(mask)))
    assert overlay.shape == (OVERLAY_PX, OVERLAY_PX // 2, 4)
    assert overlay[10, 10, 3] == 0
    assert overlay[-10, 10, 3] > 0


def test_a_small_image_is_shown_as_it_is() -> None:
    for kind, ending in (("PNG", "png"), ("JPEG", "jpg")):
        image = _encode(np.full((64, 48, 3), 90, np.uint8), kind)
        assert shrink_image(image) == (ending, image)


def test_a_large_image_is_shrunk_in_proportion() -> None:
    ending, data = shrink_image(_encode(np.full((1024, 512, 3), (200, 100, 50), np.uint8)))
    assert ending == "webp"
    with Image.open(BytesIO(data)) as image:
        assert image.size == (160, 320)
        assert np.abs(np.asarray(image, dtype=int) - (200, 100, 50)).max() < 8
