"""Defects of the workshop's parts: they show where their masks say, and nowhere else. Pairs: two parts, one surface."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tailforge.tasks.methods.workshop import (
    BALANCED,
    DEFECTS,
    PARTS,
    SURFACES,
    Pair,
    Scene,
    caption,
    render,
    render_pair,
    sample_pair,
    sample_twins,
)

VISIBLE = 10  # of 255, in the channel that changes most
AROUND = np.ones((3, 3))
SCENES = st.sampled_from(list(DEFECTS)).flatmap(
    lambda defect: st.builds(
        Scene,
        st.sampled_from(PARTS),
        st.sampled_from(DEFECTS[defect]),
        st.sampled_from(SURFACES),
        st.integers(0, 2**63 - 1),
        st.just(defect),
    )
)


def changes(scene: Scene) -> np.ndarray:
    """Return the difference [H, W] that the defect makes, in the channel that changes most."""
    clean = render(dataclasses.replace(scene, defect=None))
    difference: np.ndarray = np.abs(render(scene).image.astype(int) - clean.image).max(axis=2)
    return difference


@settings(max_examples=15)
@given(scene=SCENES)
def test_a_defect_changes_no_pixel_that_it_does_not_touch(scene: Scene) -> None:
    # The mask at four times the size says which pixels the defect touches, also by less than half.
    touched = render(scene, 256).defect.reshape(64, 4, 64, 4).any(axis=(1, 3))
    assert not changes(scene)[~ndimage.binary_dilation(touched, AROUND)].any()


@settings(max_examples=15)
@given(scene=SCENES)
def test_a_mask_holds_what_changes(scene: Scene) -> None:
    difference, mask = changes(scene), render(scene).defect
    assert mask.sum() >= 12
    # Black rubber on dark metal barely shows: 0.63 is the least of 1,500 scenes.
    assert (difference[mask] >= VISIBLE).mean() > 0.5
    assert difference[ndimage.binary_dilation(mask, AROUND)].sum() > 0.9 * difference.sum()


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_lies_on_the_part(defect: str) -> None:
    for seed, part in enumerate(PARTS):
        scene = Scene(part, "steel", "wooden bench", seed, defect)
        whole = render(dataclasses.replace(scene, defect=None)).mask
        assert not (render(scene).defect & ~ndimage.binary_dilation(whole, AROUND)).any()


@pytest.mark.parametrize("part", PARTS)
def test_only_a_chip_removes_material(part: str) -> None:
    for seed in range(4):
        whole = render(Scene(part, "steel", "wooden bench", seed)).mask
        for defect in DEFECTS:
            broken = render(Scene(part, "steel", "wooden bench", seed, defect))
            assert not (broken.mask & ~whole).any()
            assert (whole & ~broken.mask).any() == (defect == "chip")
            assert not (whole & ~broken.mask & ~broken.defect).sum() > 3  # pixels that the bite's rim shares


@pytest.mark.parametrize("defect", DEFECTS)
def test_larger_pictures_show_the_same_defect(defect: str) -> None:
    for seed in range(4):
        scene = Scene(PARTS[seed], "steel", "concrete floor", seed, defect)
        small, large = render(scene, 64).defect, render(scene, 256).defect
        shrunk = large.reshape(64, 4, 64, 4).mean(axis=(1, 3)) >= 0.5
        assert (shrunk & small).sum() / (shrunk | small).sum() > 0.8


def test_defects_of_other_seeds_lie_elsewhere() -> None:
    masks = {render(Scene("gear", "steel", "wooden bench", seed, "rust")).defect.tobytes() for seed in range(6)}
    assert len(masks) == 6


def test_a_part_without_a_defect_has_an_empty_mask() -> None:
    assert not render(Scene("gear", "steel", "wooden bench", 3)).defect.any()


@pytest.mark.parametrize(
    ("defect", "named"), [("scratch", "with a scratch"), ("rust", "with rust"), (None, "steel gear on")]
)
def test_captions_name_the_defect(defect: str | None, named: str) -> None:
    assert named in caption(Scene("gear", "steel", "wooden bench", 0, defect))


@pytest.mark.parametrize(
    ("material", "defect", "message"),
    [
        ("steel", "mould", "knows scratch"),
        ("brass", "rust", "occurs in steel"),
        ("black rubber", "dent", "steel, brass"),
    ],
)
def test_an_impossible_defect_is_refused(material: str, defect: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scene("gear", material, "wooden bench", 0, defect)


def test_a_pair_shows_both_parts_beside_each_other() -> None:
    for index in range(24):
        pair = sample_pair(index, 3, BALANCED)
        rendering = render_pair(pair)
        left, right = rendering.masks
        assert left.sum() > 100
        assert right.sum() > 100
        assert not (left & right).any()
        assert np.nonzero(left)[1].max() <= np.nonzero(right)[1].min() + 2
        assert rendering.image.tobytes() == render_pair(pair).image.tobytes()


def test_the_material_of_a_pairs_part_changes_that_part_only() -> None:
    pair = sample_pair(1, 3, BALANCED)
    other = dataclasses.replace(pair, right=dataclasses.replace(pair.right, material="steel"))
    rendering = render_pair(pair)
    changed = (rendering.image != render_pair(other).image).any(axis=2)
    assert changed[rendering.masks[1]].mean() > 0.9
    assert not changed[~ndimage.binary_dilation(rendering.masks[1], AROUND)].any()


def test_a_pair_is_captioned_from_left_to_right() -> None:
    pair = Pair(Scene("gear", "brass", "wooden bench", 0), Scene("hook", "steel", "wooden bench", 1))
    assert caption(pair) == "a photo of a brass gear and a steel hook on a wooden bench"


def test_pairs_are_repeatable_and_differ() -> None:
    pairs = [sample_pair(index, 7, {"gear": 0.9, "hook": 0.1}) for index in range(12)]
    assert sample_pair(5, 7, {"gear": 0.9, "hook": 0.1}) == pairs[5]
    assert {frozenset((pair.left.part, pair.right.part)) for pair in pairs} == {frozenset(("gear", "hook"))}
    assert len({pair.left.seed for pair in pairs}) == 12


def test_twins_are_two_parts_of_one_kind_that_differ() -> None:
    for index in range(12):
        twins = sample_twins(index, 3, BALANCED)
        assert (twins.left.part, twins.left.material) == (twins.right.part, twins.right.material)
        left, right = render_pair(twins).masks
        assert min(left.sum(), right.sum()) > 100
        assert not (left & right).any()
        assert not np.array_equal(left, np.roll(right, -32, axis=1))
    assert sample_twins(5, 3, BALANCED) == sample_twins(5, 3, BALANCED)


def test_an_impossible_pair_is_refused() -> None:
    gear = Scene("gear", "brass", "wooden bench", 0)
    with pytest.raises(ValueError, match="give one for both"):
        Pair(gear, Scene("hook", "steel", "concrete floor", 0))
    with pytest.raises(ValueError, match="two parts a weight above 0"):
        sample_pair(0, 0, {"gear": 1.0})
