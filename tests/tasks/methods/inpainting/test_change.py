"""Labels of what was drawn: the visible change, its components, and the agreement of the attention."""

import numpy as np
import pytest

from tailforge.tasks.methods.inpainting.change import (
    agree_with,
    label_change,
    measure_change,
    share_drawing,
    spread_attention,
    to_lab,
)
from tailforge.tasks.methods.inpainting.windows import Window

GREY = np.full((40, 60, 3), 128, np.uint8)


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    region = np.zeros((40, 60), np.bool_)
    region[top : top + height, left : left + width] = True
    return region


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.2)),
        ((0, 0, 255), (32.3, 79.2, -107.86)),
    ],
)  # fmt: skip
def test_colours_have_their_known_lab_values(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    assert to_lab(np.array([rgb], np.uint8))[0] == pytest.approx(lab, abs=0.1)


def test_the_mask_is_exactly_the_part_of_the_region_that_changed() -> None:
    region, drawn, line = box(5, 5, 20, 30), box(10, 10, 8, 12), box(20, 8, 1, 24)
    image = GREY.copy()
    image[drawn | line] = (200, 60, 60)
    image[box(30, 50, 5, 5)] = 255  # outside every region: no drawing
    change = measure_change(GREY, image, [region])
    assert (change[~region] == 0).all()
    found = label_change(change, [region], 2.3, 0.1, 0.01)
    assert [component.sum() for component in found.components] == [drawn.sum(), line.sum()]
    assert np.array_equal(np.any(found.components, axis=0), drawn | line)
    assert found.drawn == pytest.approx((drawn | line).sum() / region.sum())
    assert not found.is_empty


def test_a_whole_region_that_changed_is_its_own_mask() -> None:
    region = box(5, 5, 6, 30)
    image = np.where(region[..., None], np.uint8(90), GREY)
    found = label_change(measure_change(GREY, image, [region]), [region], 10.0, 0.1, 0.01)
    assert np.array_equal(found.components[0], region)
    assert (found.parts.area, found.parts.components, found.drawn) == (region.mean(), 1, 1.0)


def test_each_region_keeps_its_own_components() -> None:
    large, small, crumb = box(2, 2, 20, 30), box(30, 40, 2, 3), box(4, 25, 1, 1)
    image = GREY.copy()
    image[box(3, 3, 15, 15) | small | crumb] = 0
    found = label_change(measure_change(GREY, image, [large, small]), [large, small], 30.0, 0.1, 0.01)
    assert len(found.components) == 2
    assert not any((component & crumb).any() for component in found.components)
    assert np.array_equal(found.components[1], small)


def test_the_photograph_stays_where_only_the_autoencoder_changes_pixels() -> None:
    """The autoencoder changes every pixel, the drawing half of the region."""
    draws = np.random.default_rng(0)
    region, drawn = box(5, 5, 20, 30), box(5, 5, 20, 15)
    alone = np.where(region[..., None], np.clip(GREY + draws.normal(0, 8, GREY.shape), 0, 255).astype(np.uint8), GREY)
    painted = np.where(drawn[..., None], np.uint8([200, 60, 60]), alone)
    shares, own = share_drawing(GREY, alone, painted, [region])
    assert own > 2.3
    assert (shares[drawn] == 1).all()
    assert (shares[:, 22:] == 0).all()  # two pixels from the drawing, beyond the average over neighbours
    assert (shares[~region] == 0).all()


def test_a_drawing_that_the_autoencoder_hides_has_no_share() -> None:
    """Where the drawing is what the autoencoder makes of the photograph, and where it is fainter than its changes."""
    region = box(5, 5, 20, 30)
    alone = np.where(region[..., None], GREY + np.uint8(20), GREY)
    faint = np.where(region[..., None], GREY + np.uint8(25), GREY)
    for drawn, share in ((alone, 0.0), (faint, 0.0), (GREY, 1.0)):
        assert share_drawing(GREY, alone, drawn, [region])[0][region] == pytest.approx(share)
    assert label_change(measure_change(GREY, GREY, [region]), [region], 2.3, 0.1, 0.01).is_empty


def test_a_perfect_autoencoder_keeps_every_noticeable_drawing() -> None:
    region = box(5, 5, 20, 30)
    fainter, faint = (np.where(region[..., None], GREY + np.uint8(step), GREY) for step in (2, 7))
    assert share_drawing(GREY, GREY, fainter, [region])[0].max() == 0
    assert share_drawing(GREY, GREY, faint, [region])[0][region] == pytest.approx(1)


def test_the_attention_agrees_if_it_is_higher_in_the_mask() -> None:
    mask = box(5, 5, 10, 10)
    assert agree_with(mask.astype(np.float32), mask) == 1
    assert agree_with(1 - mask.astype(np.float32), mask) == 0
    assert agree_with(np.ones((40, 60), np.float32), mask) == 0.5
    assert agree_with(np.ones((40, 60), np.float32), np.ones((40, 60), np.bool_)) is None


def test_attention_comes_back_to_the_pixels_of_the_window() -> None:
    """A window of 20 x 40 pixels lies in the middle of a square image of 32, with borders above and below."""
    soft = np.zeros((8, 8), np.float32)
    soft[:, 4:], soft[:2], soft[6:] = 1, 9, 9
    spread = spread_attention(soft, (8, 0, 16, 32), (32, 32), Window(3, 3, 20, 40))
    assert spread.shape == (20, 40)
    assert spread[10, 5] == pytest.approx(0, abs=1e-6)
    assert spread[10, 35] == pytest.approx(1)
