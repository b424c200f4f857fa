"""The geometric tests are right on clean renders of 64 pixels before they may judge what a generator draws."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tailforge.tasks.methods.workshop import HEAD_PARTS, Scene, render, sample_scene
from tests.benchmarks.geometry import GEOMETRY, count_coils, count_corners, count_holes, count_teeth

RENDERS = 100
RIGHT = 0.98
SEED = 77


@cache
def scenes_of(part: str) -> list[Scene]:
    return [sample_scene(number, SEED, {part: 1.0}) for number in range(RENDERS)]


@cache
def masks_of(part: str) -> list[NDArray[np.bool_]]:
    return [render(scene).mask for scene in scenes_of(part)]


@pytest.mark.parametrize("part", HEAD_PARTS)
def test_clean_renders_pass_the_test_of_their_part(part: str) -> None:
    assert np.mean([GEOMETRY[part](mask) for mask in masks_of(part)]) >= RIGHT


@pytest.mark.parametrize(
    ("part", "others"),
    [
        ("hex nut", ("washer", "gear", "pulley", "bolt", "bracket")),
        ("washer", ("hex nut", "gear", "pulley", "bolt")),
        ("gear", ("hex nut", "washer", "pulley", "wrench")),
        ("spring", ("bolt", "wrench", "bracket", "gear")),
        ("bracket", ("wrench", "washer", "bolt")),
        ("pulley", ("washer", "gear")),
    ],
)
def test_other_parts_fail(part: str, others: tuple[str, ...]) -> None:
    for other in others:
        assert np.mean([GEOMETRY[part](mask) for mask in masks_of(other)]) <= 1 - RIGHT


def test_teeth_are_counted() -> None:
    """A gear's number of teeth is the first draw of its proportions."""
    truth = [np.random.default_rng((scene.seed, 1)).integers(8, 13) for scene in scenes_of("gear")]
    assert np.mean(np.array(truth) == [count_teeth(mask) for mask in masks_of("gear")]) >= RIGHT


def test_a_gear_with_a_gap_fails() -> None:
    """A closed ring has one hole; an open one has none."""
    for mask in masks_of("gear")[:20]:
        rows, columns = np.nonzero(mask)
        cut = mask.copy()
        cut[: round(rows.mean()), round(columns.mean()) - 1 : round(columns.mean()) + 2] = False
        assert not GEOMETRY["gear"](cut)


def test_a_gear_without_one_tooth_fails() -> None:
    """A tooth ground off leaves a gap twice as wide."""
    for mask in masks_of("gear")[:20]:
        rows, columns = np.indices(mask.shape) - np.argwhere(ndimage.binary_fill_holes(mask)).mean(0)[:, None, None]
        far = np.hypot(rows, columns) > 0.76 * np.hypot(rows, columns)[mask].max()
        teeth = ndimage.label(mask & far)[0]
        assert not GEOMETRY["gear"](mask & (teeth != np.bincount(teeth[teeth > 0]).argmax()))


def test_a_nut_with_one_corner_cut_off_fails() -> None:
    """Five corners and a blunt one: the outline of a slipped nut."""
    failed = 0
    for mask in masks_of("hex nut")[:20]:
        rows, columns = np.indices(mask.shape)
        far = np.argwhere(mask)[np.hypot(*(np.argwhere(mask) - np.argwhere(mask).mean(0)).T).argmax()]
        reach = np.hypot(*(far - np.argwhere(mask).mean(0)))
        blunt = mask & (np.hypot(rows - far[0], columns - far[1]) > 0.75 * reach)
        failed += not GEOMETRY["hex nut"](blunt)
    assert failed >= 18


def polygon(corners: int, radius: float, turn: float) -> NDArray[np.bool_]:
    """Return a regular polygon [64, 64]."""
    rows, columns = np.indices((64, 64)) - 31.3
    angle = (np.arctan2(rows, columns) - turn) % (2 * np.pi / corners) - np.pi / corners
    inside: NDArray[np.bool_] = np.hypot(rows, columns) * np.cos(angle) <= radius * np.cos(np.pi / corners)
    return inside


@pytest.mark.parametrize("corners", [3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("turn", [0.0, 0.2, 0.5])
def test_corners_of_polygons_are_counted(corners: int, turn: float) -> None:
    assert count_corners(polygon(corners, 22.0, turn)) == corners


def test_a_disc_has_no_corners() -> None:
    rows, columns = np.indices((64, 64)) - 31.3
    assert count_corners(np.hypot(rows, columns) < 20) == 0


def test_holes_are_counted_with_specks_left_out() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[10:50, 10:50] = True
    mask[20:24, 20:24] = mask[30:35, 30:35] = mask[40:41, 40:42] = False
    assert count_holes(mask) == 2


def test_a_spring_with_a_missing_turn_fails() -> None:
    """Turns pulled apart are not regular."""
    for mask in masks_of("spring")[:20]:
        assert set(count_coils(mask)) == {4, 5}
        points = np.argwhere(mask) - np.argwhere(mask).mean(0)
        along = points @ np.linalg.svd(points, full_matrices=False)[2][0]
        cut = mask.copy()
        cut[tuple(np.argwhere(mask)[np.abs(along - 0.3 * along.max()) < 0.18 * along.max()].T)] = False
        assert not GEOMETRY["spring"](cut)
