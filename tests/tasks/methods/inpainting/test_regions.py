"""Regions have the size that was asked for, keep to the part, do not meet, and follow their seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.schemas.settings.drawing import MaskRegions, ReferenceRegions, ShapeRegions
from tailforge.tasks.methods.inpainting.regions import choose_regions
from tailforge.tasks.methods.inpainting.shapes import DRAW, Pose, Region, draw_shape, measure_pose
from tailforge.tasks.methods.masks.components import split_components

SIZE = (96, 128)


def ellipse(area: float, elongation: float, angle: float, centre: tuple[float, float]) -> Region:
    """The pixels of an exact ellipse."""
    down, right = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    y, x = down - centre[0], right - centre[1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    long, short = np.sqrt(area * elongation / np.pi), np.sqrt(area / elongation / np.pi)
    return np.asarray(np.hypot(along / long, across / short) <= 1)


@pytest.mark.parametrize(("elongation", "angle"), [(1.5, 0.3), (4.0, 1.2), (6.0, 2.5)])
def test_the_pose_of_an_ellipse_is_measured(elongation: float, angle: float) -> None:
    found = measure_pose(ellipse(900, elongation, angle, (48, 60)))
    assert found.area == pytest.approx(900, rel=0.05)
    assert found.elongation == pytest.approx(elongation, rel=0.05)
    assert found.centre == pytest.approx((48, 60), abs=0.2)
    assert np.sin(found.angle - angle) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("form", DRAW)
def test_a_shape_has_about_its_area_and_holds_its_centre(form: str) -> None:
    areas = []
    for seed in range(40):
        pose = Pose(300, {"scratch": 25, "stroke": 6}.get(form, 1.5), 0.7, (128, 128))
        drawn = draw_shape(form, pose, (256, 256), np.random.default_rng(seed))  # type: ignore[arg-type]
        assert drawn[128, 128]
        areas.append(drawn.sum())
    assert np.mean(areas) == pytest.approx(300, rel=0.25)


def test_a_scratch_is_longer_and_thinner_than_a_blob() -> None:
    scratch = draw_shape("scratch", Pose(300, 25, 0, (128, 128)), (256, 256), np.random.default_rng(1))
    blob = draw_shape("blob", Pose(300, 1.5, 0, (128, 128)), (256, 256), np.random.default_rng(1))
    assert measure_pose(scratch).elongation > 10 > 3 > measure_pose(blob).elongation


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    form=st.sampled_from(list(DRAW)),
    share=st.floats(0.001, 0.5),
    count=st.integers(1, 4),
    box=st.tuples(st.integers(0, 80), st.integers(0, 100), st.integers(1, 60), st.integers(1, 60)),
)
def test_regions_keep_to_the_part_and_do_not_meet(
    seed: int, form: str, share: float, count: int, box: tuple[int, int, int, int]
) -> None:
    part = np.zeros(SIZE, np.bool_)
    top, left, height, width = box
    part[top : top + height, left : left + width] = True
    chosen = ShapeRegions.model_validate({"shapes": [form], "area": [share, share], "count": [count, count]})
    found = choose_regions(chosen, part, (), seed)
    assert 1 <= len(found) <= count
    assert all(region.any() and not (region & ~part).any() for region in found)
    assert np.sum(found, axis=0).max() == 1
    again = choose_regions(chosen, part, (), seed)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def test_a_mask_gives_its_components_at_the_size_of_the_photograph() -> None:
    mask = np.zeros((48, 64), np.bool_)
    mask[4:10, 4:12], mask[30:40, 50:60] = True, True
    whole = np.ones(SIZE, np.bool_)
    first, second = choose_regions(MaskRegions(kind="masks", folder="x"), whole, (mask,), 0)
    assert np.array_equal(first | second, mask.repeat(2, 0).repeat(2, 1))
    part = np.zeros(SIZE, np.bool_)
    part[:60] = True
    (only,) = choose_regions(MaskRegions(kind="masks", folder="x"), part, (mask,), 0)
    assert np.array_equal(only, first)
    assert choose_regions(MaskRegions(kind="masks", folder="x"), ~(first | second), (mask,), 0) == []


def test_regions_have_the_statistics_of_the_references() -> None:
    """Medians over many draws are those of the reference: the changes of single regions have no direction."""
    mask = ellipse(250, 6, 0.6, (40, 64))
    chosen = ReferenceRegions(kind="references", folder="x")
    found = [choose_regions(chosen, np.ones(SIZE, np.bool_), (mask,), seed)[0] for seed in range(80)]
    poses = [measure_pose(max(split_components(each), key=np.sum)) for each in found]
    assert np.median([pose.area for pose in poses]) == pytest.approx(250, rel=0.15)
    assert np.median([pose.elongation for pose in poses]) == pytest.approx(6, rel=0.35)
    assert np.median([np.sin(2 * (pose.angle - 0.6)) for pose in poses]) == pytest.approx(0, abs=0.15)
    assert np.median([pose.centre for pose in poses], axis=0) == pytest.approx((40, 64), abs=6)
