"""Rival ways to draw defects: they stay inside the region, say what they changed, and repeat themselves."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tailforge.schemas.settings.pasting import DefectRegions
from tailforge.tasks.methods.defects import (
    Drawn,
    Reference,
    copy_paste,
    cut_paste,
    noise_texture,
    paste,
    place_defects,
)
from tailforge.tasks.methods.defects.copy_paste import blend_poisson, match_light
from tailforge.tasks.methods.defects.noise_texture import draw_perlin
from tailforge.tasks.methods.workshop import DEFECTS, Scene, render

SOURCE = render(Scene("washer", "steel", "wooden bench", 3)).image
BROKEN = [render(Scene("gear", "steel", "wooden bench", seed, defect)) for seed, defect in enumerate(DEFECTS)]
REFERENCES = [Reference(each.image, each.defect) for each in BROKEN]

Draw = Callable[[np.ndarray, np.ndarray, int], Drawn]
METHODS: dict[str, Draw] = {
    "copy_paste": lambda source, region, seed: copy_paste(source, region, REFERENCES, seed),
    "poisson": lambda source, region, seed: copy_paste(source, region, REFERENCES, seed, "poisson"),
    "cut_paste": cut_paste,
    "noise_texture": noise_texture,
}


def stroke(angle: float, row: int = 32, column: int = 32, half: float = 2.0, length: float = 14.0) -> np.ndarray:
    """Return a straight stroke [64, 64] about a centre."""
    down, across = np.indices((64, 64)) - np.array([row, column])[:, None, None]
    along = down * np.sin(angle) + across * np.cos(angle)
    beside = across * np.sin(angle) - down * np.cos(angle)
    return (np.abs(along) <= length) & (np.abs(beside) <= half)


REGIONS = st.builds(
    stroke, st.floats(0, 3.2), st.integers(0, 63), st.integers(0, 63), st.floats(0.6, 9.0), st.floats(1.0, 30.0)
).filter(np.any)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25)
@given(region=REGIONS, seed=st.integers(0, 2**63 - 1))
def test_only_the_region_changes_and_the_mask_says_where(method: str, region: np.ndarray, seed: int) -> None:
    before = SOURCE.copy()
    drawn = METHODS[method](SOURCE, region, seed)
    assert np.array_equal(drawn.image[~region], SOURCE[~region])
    assert np.array_equal(drawn.mask, (drawn.image != SOURCE).any(axis=2))
    assert (drawn.image.dtype, drawn.mask.dtype, drawn.image.shape) == (np.uint8, np.bool_, SOURCE.shape)
    assert np.array_equal(SOURCE, before)
    again = METHODS[method](SOURCE, region, seed)
    assert drawn.image.tobytes() == again.image.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_regions_on_the_part_are_drawn_into(method: str) -> None:
    """Of 20 seeds, all change some of the region, and most of them most of it."""
    region = stroke(0.4, half=4.0)
    shares = [METHODS[method](SOURCE, region, seed).mask[region].mean() for seed in range(20)]
    assert min(shares) > 0.1
    assert np.median(shares) > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_other_seeds_draw_other_defects(method: str) -> None:
    region = stroke(0.4, half=4.0)
    assert len({METHODS[method](SOURCE, region, seed).image.tobytes() for seed in range(12)}) >= 5


@pytest.mark.parametrize("method", METHODS)
def test_bad_input_is_refused(method: str) -> None:
    region = stroke(0.4)
    with pytest.raises(ValueError, match="region has no pixel"):
        METHODS[method](SOURCE, np.zeros((64, 64), np.bool_), 0)
    with pytest.raises(ValueError, match=r"region has the shape \(32, 64\)"):
        METHODS[method](SOURCE, region[:32], 0)
    with pytest.raises(ValueError, match="photograph has the shape"):
        METHODS[method](SOURCE[:, :, 0], region, 0)
    with pytest.raises(ValueError, match="float64; give"):
        METHODS[method](SOURCE.astype(np.float64), region, 0)


def test_a_copy_needs_a_reference_with_a_mask() -> None:
    with pytest.raises(ValueError, match="no reference"):
        copy_paste(SOURCE, stroke(0.4), [], 0)
    with pytest.raises(ValueError, match="region has no pixel"):
        copy_paste(SOURCE, stroke(0.4), [Reference(SOURCE, np.zeros((64, 64), np.bool_))], 0)


def test_a_copy_turns_the_defect_into_the_region() -> None:
    """A dark horizontal stroke on grey is drawn as a dark stroke of the region's direction."""
    image, mask = np.full((64, 64, 3), 160, np.uint8), stroke(0.0)
    image[mask] = 20
    plain = np.full((64, 64, 3), 120, np.uint8)
    for angle in (0.5, 1.2, 2.4):
        region = stroke(angle, half=5.0)
        drawn = copy_paste(plain, region, [Reference(image, mask)], 1)
        dark = (plain.astype(int) - drawn.image).max(axis=2) > 40
        points = np.argwhere(dark) - np.argwhere(dark).mean(0)
        down, across = np.linalg.svd(points, full_matrices=False)[2][0]
        assert dark.sum() > 60
        assert abs(down * np.sin(angle) + across * np.cos(angle)) > 0.98


STILL = DefectRegions(mirror=False, turn=0.0, scale=(1.0, 1.0), shift=0.0)
WHOLE = np.ones((64, 64), np.bool_)


def test_a_defect_that_stays_is_the_defect_itself() -> None:
    """Cut out of its photograph and put back where it was, into the part without it."""
    broken = render(Scene("gear", "steel", "wooden bench", 5, "crack"))
    good = render(Scene("gear", "steel", "wooden bench", 5))
    rows, columns = (slice(max(each.min() - 8, 0), each.max() + 9) for each in np.nonzero(broken.defect))
    reference = Reference(
        broken.image[rows, columns], broken.defect[rows, columns], (rows.start, columns.start), (64, 64)
    )
    (placed,) = place_defects(STILL, WHOLE, [reference], 0)
    assert np.array_equal(placed.region, broken.defect)
    drawn = paste(good.image, placed, "none")
    assert np.abs(drawn.image.astype(int) - broken.image)[broken.defect].max() <= 40  # the light around it differs
    assert np.array_equal(drawn.image[~broken.defect], good.image[~broken.defect])


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**63 - 1),
    chosen=st.builds(
        DefectRegions,
        count=st.just((1, 3)),
        mirror=st.booleans(),
        turn=st.floats(0, 180),
        scale=st.just((0.5, 2.0)),
        shift=st.floats(0, 1),
    ),
    part=st.sampled_from([WHOLE, render(Scene("washer", "steel", "wooden bench", 3)).mask]),
)
def test_placed_defects_are_on_the_part_and_apart(seed: int, chosen: DefectRegions, part: np.ndarray) -> None:
    placed = place_defects(chosen, part, REFERENCES, seed)
    assert 1 <= len(placed) <= 3
    assert np.sum([each.region for each in placed], axis=0).max() == 1
    assert all(each.region.any() and not (each.region & ~part).any() for each in placed)
    again = place_defects(chosen, part, REFERENCES, seed)
    assert all(np.array_equal(one.region, two.region) for one, two in zip(placed, again, strict=True))


def test_a_mirrored_defect_of_a_border_stays_at_a_border() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[20:30, :6] = True
    reference = Reference(np.full((64, 64, 3), 90, np.uint8), mask)
    settings_ = DefectRegions(turn=0.0, scale=(1.0, 1.0), shift=0.0)
    found = {place_defects(settings_, WHOLE, [reference], seed)[0].region.tobytes() for seed in range(40)}
    whole = [np.frombuffer(each, np.bool_).reshape(64, 64) for each in found]
    assert len(whole) == 4
    assert all(each[:, 0].any() or each[:, -1].any() for each in whole)
    assert {int(each.sum()) for each in whole} <= set(range(45, 61))


def test_light_around_a_copy_is_that_of_the_photograph() -> None:
    """A defect of half the light around it has half the light of the photograph around it."""
    inside = stroke(0.7, half=3.0)
    moved, source = np.full((64, 64, 3), 50.0), np.full((64, 64, 3), 120, np.uint8)
    moved[inside] = 25.0
    assert np.allclose(match_light(source, moved, inside)[inside], 60.0)


def test_poisson_blending_of_the_same_image_changes_nothing() -> None:
    inside = stroke(0.7, half=6.0)
    blended = blend_poisson(SOURCE, SOURCE.astype(np.float64), inside)
    assert np.abs(blended - SOURCE).max() < 1e-6


def test_poisson_blending_ignores_a_constant() -> None:
    """Only gradients are copied: a brighter copy blends to the same image (Pérez et al., equation 7)."""
    inside, moved = stroke(0.7, half=6.0), BROKEN[0].image.astype(np.float64)
    first, second = blend_poisson(SOURCE, moved, inside), blend_poisson(SOURCE, moved + 40.0, inside)
    assert np.abs(first - second).max() < 1e-6


def test_poisson_blending_solves_its_equations() -> None:
    inside, moved = stroke(0.3, row=2, half=6.0), BROKEN[1].image.astype(np.float64)
    blended = blend_poisson(SOURCE, moved, inside)
    for row, column in np.argwhere(inside)[::7]:
        around = [(row + d, column + a) for d, a in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        around = [(r, c) for r, c in around if 0 <= r < 64 and 0 <= c < 64]
        left = sum(blended[row, column] - blended[r, c] for r, c in around)
        right = sum(moved[row, column] - moved[r, c] for r, c in around)
        assert np.abs(left - right).max() < 1e-6
    assert np.array_equal(blended[~inside], SOURCE[~inside])


def test_a_plain_photograph_has_no_other_patch() -> None:
    """Only the changed colours differ, by at most a fifth each way."""
    plain = np.full((64, 64, 3), 100, np.uint8)
    drawn = cut_paste(plain, stroke(0.4), 4)
    assert np.abs(drawn.image.astype(int) - 100).max() <= 20


def test_perlin_noise_is_smooth_and_zero_at_its_lattice() -> None:
    noise = draw_perlin(64, 64, 4, 4, np.random.default_rng(0))
    assert np.abs(noise).max() <= 1.0
    assert noise.std() > 0.1
    assert np.abs(np.diff(noise, axis=0)).max() < 0.25
    corners = noise[15:17, 15:17]  # half a pixel around a lattice point
    assert np.abs(corners).max() < 0.1


def test_noise_keeps_at_least_half_of_the_region() -> None:
    region, plain = ndimage.binary_dilation(stroke(1.0, half=6.0)), np.full((64, 64, 3), 128, np.uint8)
    shares = [noise_texture(plain, region, seed).mask[region].mean() for seed in range(12)]
    assert max(shares) <= 1.0
    assert np.mean(shares) > 0.5
