"""Components become instances: apart, touching, contested, and none lost but the weak ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailforge.schemas.settings.annotation import Annotation
from tailforge.tasks.methods.masks.confidence import estimate_instance
from tailforge.tasks.methods.masks.instances import Claim, falls_apart, find_instances
from tailforge.tasks.methods.masks.soft_masks import Word, outline_words, soften_words

SIZE = 48


def bump(row: float, column: float, radius: float = 6.0, peak: float = 1.0) -> NDArray[np.float32]:
    """A soft map [48, 48] that falls from its peak like a Gaussian."""
    down, right = np.mgrid[:SIZE, :SIZE]
    squared = (down - row) ** 2 + (right - column) ** 2
    return (peak * np.exp(-squared / (2 * radius**2))).astype(np.float32)


def claim(soft: NDArray[np.float32], category: int = 1, level: float = 0.4) -> Claim:
    return Claim(category, soft, soft >= level)


def test_objects_apart_are_instances_from_the_top_left() -> None:
    soft = np.maximum(bump(34, 12, 4), bump(12, 34, 4))
    first, second = find_instances([claim(soft)], 0.0)
    assert first.region[12, 34]
    assert second.region[34, 12]
    assert not first.crowd
    assert not second.crowd


def test_touching_objects_are_one_crowd() -> None:
    soft = np.maximum(bump(24, 16), bump(24, 30))
    (found,) = find_instances([claim(soft)], 0.0)
    assert found.crowd
    assert np.array_equal(found.region, soft >= 0.4)


def test_one_object_is_no_crowd_whatever_small_tips_it_has() -> None:
    (round_one,) = find_instances([claim(bump(24, 24))], 0.0)
    (with_tip,) = find_instances([claim(np.maximum(bump(24, 18, 8), bump(24, 30, 3)))], 0.0)
    assert not round_one.crowd
    assert not with_tip.crowd


def test_a_flat_region_does_not_fall_apart() -> None:
    region = np.zeros((SIZE, SIZE), np.bool_)
    region[5:20, 5:40] = True
    assert not falls_apart(region.astype(np.float32), region)


def test_words_of_one_category_share_their_objects() -> None:
    soft = bump(24, 24)
    left, right = (Claim(3, soft, (soft >= 0.4) & side) for side in (np.arange(SIZE) < 22, np.arange(SIZE) >= 22))
    (found,) = find_instances([left, right], 0.0)
    assert np.array_equal(found.region, soft >= 0.4)
    assert found.word == 1


def test_a_contested_object_is_trusted_less() -> None:
    soft = bump(24, 24)
    (alone,) = find_instances([claim(soft)], 0.0)
    rival = Claim(2, 0.9 * soft, np.zeros((SIZE, SIZE), np.bool_))
    contested = next(each for each in find_instances([claim(soft), rival], 0.0) if each.word == 0)
    assert contested.confidence < 0.5 * alone.confidence


def test_weak_components_are_left_out_and_the_best_stays() -> None:
    soft = np.maximum(bump(12, 12, 4), bump(34, 34, 4))
    rival = Claim(2, 0.95 * bump(34, 34, 4), np.zeros((SIZE, SIZE), np.bool_))
    both = find_instances([claim(soft), rival], 0.0)
    least = np.mean([each.confidence for each in both])
    assert [each.region[12, 12] for each in find_instances([claim(soft), rival], float(least))] == [True]
    assert len(find_instances([claim(soft), rival], 1.0)) == 1


def test_nothing_claimed_is_no_instance() -> None:
    assert find_instances([], 0.5) == []
    assert find_instances([Claim(1, bump(24, 24), np.zeros((SIZE, SIZE), np.bool_))], 0.5) == []


@pytest.mark.parametrize("name", ["separability", "rivalry"])
def test_confidence_follows_its_clues(name: str) -> None:
    usual = {"separability": 0.8, "area": 0.1, "rivalry": 0.4}
    low, high = (estimate_instance(**{**usual, name: value}) for value in (0.2, 0.9))
    assert (low < high) is (name == "separability")
    assert 0 < min(low, high) < max(low, high) < 1


@given(st.integers(0, 2**16), st.integers(1, 3), st.floats(0, 1), st.booleans())
def test_instances_hold_the_pixels_of_the_mask_once(seed: int, things: int, least: float, same: bool) -> None:
    draws = np.random.default_rng(seed)
    maps = draws.random((things + 1, 6, 6)).astype(np.float32) ** 3
    words = [Word(row, 1 if same else row + 1) for row in range(things)] + [Word(things, 9, thing=False)]
    settings = Annotation(min_instance=least, ignore_band=0.02)
    found = outline_words(soften_words(maps, words, np.full((24, 24, 3), 128, np.uint8), settings), settings)
    held = sum((each.region.astype(int) for each in found.instances), np.zeros((24, 24), int))
    assert held.max() <= 1
    assert np.array_equal(held == 1, (found.mask > 0) & (found.mask < 255))
    for each in found.instances:
        assert set(np.unique(found.mask[each.region])) == {words[each.word].category}
        assert 0 <= each.confidence <= 1


def test_pixels_of_a_weak_component_are_ignored() -> None:
    maps = np.stack([np.maximum(bump(12, 12, 4), bump(34, 34, 4)), 0.95 * bump(34, 34, 4)]) + 0.01
    words, pixels = [Word(0, 1), Word(1, 2)], np.full((SIZE, SIZE, 3), 128, np.uint8)
    lenient, strict = (Annotation(refine=False, min_instance=least) for least in (0.0, 0.999))
    before, after = (outline_words(soften_words(maps, words, pixels, each), each) for each in (lenient, strict))
    weak = (before.mask > 0) & (after.mask == 255)
    assert weak.any()
    assert len(after.instances) < len(before.instances)
    assert np.array_equal(np.where(weak, before.mask, after.mask), before.mask)
