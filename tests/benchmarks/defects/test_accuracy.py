"""Measures of masks on cases whose figures are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.defects.accuracy import Published, differ_visibly, match_boundary, score

GREY = np.full((64, 64, 3), 128, np.uint8)


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    region = np.zeros((64, 64), np.bool_)
    region[top : top + height, left : left + width] = True
    return region


def test_boundaries_one_pixel_apart_agree_and_two_apart_do_not() -> None:
    truth = box(20, 20, 10, 10)
    assert match_boundary(truth, truth) == 1
    assert match_boundary(box(19, 19, 12, 12), truth) == pytest.approx(2 * (40 / 44) / (1 + 40 / 44))  # not its corners
    assert match_boundary(box(18, 18, 14, 14), truth) == 0
    assert match_boundary(box(40, 40, 5, 5), truth) == 0


def test_an_empty_mask_agrees_with_an_empty_truth_alone() -> None:
    nothing, something = box(0, 0, 0, 0), box(3, 3, 4, 4)
    assert match_boundary(nothing, nothing) == 1
    assert match_boundary(nothing, something) == match_boundary(something, nothing) == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_boundarys_score_does_not_care_which_mask_is_the_truth(seed: int) -> None:
    draws = np.random.default_rng(seed)
    first, second = (draws.random((32, 40)) < draws.random() for _ in range(2))
    assert match_boundary(first, second) == pytest.approx(match_boundary(second, first))


def test_a_grey_level_does_not_show_and_ten_do() -> None:
    image = GREY.copy()
    image[box(0, 0, 5, 5)] += 1
    image[shown := box(30, 30, 5, 5)] += 10
    assert np.array_equal(differ_visibly(image, GREY), shown)


def test_figures_of_a_picture() -> None:
    """A region of 10 x 10 pixels, half of it drawn; the mask is too wide by two columns, and a byte outside changed."""
    region, drawn, mask = box(10, 10, 10, 10), box(10, 10, 10, 5), box(10, 10, 10, 7)
    image = GREY.copy()
    image[drawn], image[50, 50, 0] = 200, 129
    found = score(Published(image, mask, GREY, region, exact=mask))
    assert found["mask_iou"] == pytest.approx(50 / 70)
    assert found["outside_changed"] == pytest.approx(1 / (64 * 64 - 100))
    assert found["mask_share"] == pytest.approx(0.7)
    assert (found["exact_iou"], found["exact_boundary_f"]) == (1, 1)
    assert "exact_iou" not in score(Published(image, mask, GREY, region))
