"""Soft maps become masks: thresholds against exhaustive search, components by hand, and no mask out of nothing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.schemas.settings.annotation import Annotation
from tailforge.tasks.methods.masks.components import fill_holes, keep_components
from tailforge.tasks.methods.masks.levels import count_levels, scale_map, split_levels
from tailforge.tasks.methods.masks.soft_masks import (
    Outlines,
    Word,
    find_threshold,
    outline_words,
    pool_thresholds,
    soften_words,
)

GREY = np.full((64, 64, 3), 128, np.uint8)
THING = (Word(0, 7),)


def blob(rows: slice, columns: slice, size: int = 16, low: float = 0.01, high: float = 0.05) -> np.ndarray:
    soft = np.full((size, size), low, np.float32)
    soft[rows, columns] = high
    return soft


def outline(maps: np.ndarray, words: Any = THING, pixels: np.ndarray = GREY, **chosen: Any) -> Outlines:
    asked = Annotation(**{"refine": False} | chosen)
    return outline_words(soften_words(maps, words, pixels, asked), asked)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_a_clear_blob_is_found() -> None:
    found = outline(blob(slice(4, 12), slice(2, 10))[None])
    truth = np.zeros((64, 64), bool)
    truth[16:48, 8:40] = True
    (only,) = found.outlines
    assert set(np.unique(found.mask)) == {0, 7}
    assert overlap(found.mask == 7, truth) > 0.9
    assert only.parts.components == 1
    assert only.parts.area == pytest.approx((found.mask == 7).mean())
    assert only.confidence > 0.8


def test_a_word_is_less_sure_where_a_word_of_another_category_claims_its_pixels() -> None:
    """Two parts of one caption, of which the generator tells apart none."""
    here, there = blob(slice(4, 12), slice(1, 7)), blob(slice(4, 12), slice(9, 15))
    alone = outline(here[None]).outlines[0].confidence
    apart = outline(np.stack([here, there]), [Word(0, 7), Word(1, 8)]).outlines
    same = outline(np.stack([here, here]), [Word(0, 7), Word(1, 8)]).outlines[0].confidence
    assert alone > 0.8
    assert [each.confidence for each in apart] == pytest.approx([alone, alone], abs=0.05)
    assert same < alone - 0.4

    # A synonym is no rival, and neither is stuff.
    for other in (Word(1, 7), Word(1, 8, thing=False)):
        assert outline(np.stack([here, here]), [Word(0, 7), other]).outlines[0].confidence == alone


def test_edges_of_the_image_draw_the_mask_to_them() -> None:
    truth = np.zeros((64, 64), bool)
    truth[14:47, 9:42] = True  # between the cells of the map
    pixels = np.where(truth[..., None], np.uint8(220), np.uint8(40)).repeat(3, axis=2)
    soft = blob(slice(4, 12), slice(2, 10))[None]
    plain = overlap(outline(soft, pixels=pixels).mask == 7, truth)
    refined = overlap(outline(soft, pixels=pixels, refine=True).mask == 7, truth)
    assert refined > 0.97 > plain


def test_size_need_not_be_square() -> None:
    for refine in (False, True):
        found = outline(blob(slice(4, 12), slice(2, 10))[None], pixels=GREY[:40, :].repeat(2, axis=1), refine=refine)
        assert found.mask.shape == (40, 128)
        assert found.mask.dtype == np.uint8
        assert found.mask.any()


@pytest.mark.parametrize("value", [0.0, 0.02])
@pytest.mark.parametrize("refine", [True, False])
def test_a_flat_map_has_no_mask(value: float, refine: bool) -> None:
    found = outline(np.full((1, 8, 8), value, np.float16), refine=refine)
    assert not found.mask.any()
    assert found.outlines[0].confidence == 0
    assert found.outlines[0].parts.components == 0


def test_a_clear_blob_is_trusted_more_than_noise() -> None:
    noise = np.random.default_rng(0).uniform(0.01, 0.05, (1, 16, 16)).astype(np.float32)
    clear, doubtful = outline(blob(slice(4, 12), slice(4, 12))[None]), outline(noise)
    assert doubtful.outlines[0].confidence < 0.7 < 0.85 < clear.outlines[0].confidence


def test_a_thing_whose_readings_disagree_has_no_mask() -> None:
    wandering = np.random.default_rng(1).uniform(0.01, 0.05, (16, 16)).astype(np.float32)
    steady, asked = blob(slice(4, 12), slice(4, 12)), Annotation(refine=False)
    words, maps = [Word(0, 1), Word(1, 2), Word(2, 3, thing=False)], np.stack([steady, wandering, wandering])

    def found(agreement: list[float] | None, least: float) -> list[bool]:
        softened = soften_words(maps, words, GREY, asked, agreement, least)
        return [bool(each.region.any()) for each in outline_words(softened, asked, agreement).outlines]

    # Stuff stays, and one reading decides nothing.
    assert found([0.9, 0.3, 0.3], 0.5) == [True, False, True]
    assert found([0.9, 0.3, 0.3], 0.0)[:2] == found(None, 0.5)[:2] == [True, True]
    assert found([0.9, 0.9, 0.3], 1e-9)[1]


def test_agreement_of_readings_counts_for_its_own_word() -> None:
    maps = np.stack([blob(slice(2, 6), slice(2, 6)), blob(slice(10, 14), slice(10, 14))])
    asked = Annotation(refine=False)
    softened = soften_words(maps, [Word(1, 2), Word(0, 1)], GREY, asked)
    low, high = outline_words(softened, asked, [0.9, 0.1]).outlines
    assert (low.parts.agreement, high.parts.agreement) == (0.1, 0.9)
    assert low.confidence < high.confidence


def test_a_band_below_the_threshold_is_ignored() -> None:
    soft = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    found = outline(soft[None], threshold=0.5, ignore_band=0.2)
    assert set(np.unique(found.mask)) == {0, 7, 255}
    assert 0.15 < (found.mask == 255).mean() < 0.25
    assert (found.mask[:, -1] == 7).all()
    assert (found.mask[:, 0] == 0).all()


def test_nothing_is_ignored_around_a_crumb_that_was_dropped() -> None:
    soft = np.zeros((64, 64), np.float32)
    soft[9:31, 9:31], soft[10:30, 10:30] = 0.45, 1.0  # a thing in its band
    soft[49:52, 49:52], soft[50, 50] = 0.45, 1.0  # a crumb in its own
    soft[40:44, 10:14] = 0.45  # a band around nothing
    soft[31, 31], soft[32, 32] = 0.45, 0.45  # a tail that hangs on by corners
    expected = np.zeros((64, 64), np.uint8)
    expected[9:31, 9:31], expected[31, 31], expected[32, 32], expected[10:30, 10:30] = 255, 255, 255, 7
    assert np.array_equal(outline(soft[None], threshold=0.5, ignore_band=0.1).mask, expected)
    expected[49:52, 49:52], expected[50, 50] = 255, 7
    kept = outline(soft[None], threshold=0.5, ignore_band=0.1, min_component=0.0)
    assert np.array_equal(kept.mask, expected)


def test_a_thing_ignores_only_around_itself() -> None:
    maps = np.zeros((2, 64, 64), np.float32)
    maps[0, 10:20, 10:20], maps[1, 40:50, 40:50] = 1.0, 1.0
    maps[0, 50:52, 40:50] = 0.45  # in the first thing's band, but at the second one
    maps[1, 50:51, 40:50] = 0.45
    found = outline(maps, [Word(0, 1), Word(1, 2)], threshold=0.5, ignore_band=0.1)
    expected = np.zeros((64, 64), np.uint8)
    expected[10:20, 10:20], expected[40:50, 40:50], expected[50:51, 40:50] = 1, 2, 255
    assert np.array_equal(found.mask, expected)


def test_two_things_share_no_pixel_and_the_stronger_has_it() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    words = [Word(0, 1), Word(1, 2)]
    found = outline(np.stack([ramp, 1 - ramp]), words, threshold=0.2)
    first, second = (each.region for each in found.outlines)
    assert not (first & second).any()
    assert (found.mask[:, :31] == 2).all()
    assert (found.mask[:, 33:] == 1).all()
    tied = outline(np.stack([ramp, 1 - ramp]), words, threshold=0.2, ignore_band=0.1)
    assert (tied.mask[:, 31:33] == 255).all()
    assert not any(each.region[:, 31:33].any() for each in tied.outlines)
    assert (tied.mask[:, 40:] == 1).all()


def test_holes_are_not_filled_with_another_thing() -> None:
    ring, core = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    ring[10:50, 10:50], ring[28:32, 28:32], core[28:32, 28:32] = 1, 0, 1
    for words in ([Word(0, 1), Word(1, 2)], [Word(1, 2), Word(0, 1)]):
        found = outline(np.stack([ring, core]), words, max_hole=0.05)
        regions = np.stack([each.region for each in found.outlines])
        assert (regions.sum(0) <= 1).all()
        assert (found.mask[28:32, 28:32] == 2).all()
        for each in found.outlines:
            assert np.array_equal(found.mask == each.word.category, each.region)


def test_two_things_apart_tie_nowhere_and_words_of_one_category_do_not_compete() -> None:
    apart = np.stack([blob(slice(2, 6), slice(2, 6)), blob(slice(10, 14), slice(10, 14))])
    found = outline(apart, [Word(0, 1), Word(1, 2)], ignore_band=0.05)
    assert all(each.region.sum() > 100 for each in found.outlines)
    same = outline(np.stack([apart[0], apart[0]]), [Word(0, 1), Word(1, 1)], ignore_band=0.05)
    assert (same.mask == 1).sum() == (found.mask == 1).sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.booleans())
def test_no_pixel_is_in_two_regions(seed: int, things: int, refine: bool) -> None:
    draws = np.random.default_rng(seed)
    maps = draws.random((things + 1, 8, 8)).astype(np.float32)
    pixels = draws.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    words = [Word(row, row + 1, row < things) for row in range(things + 1)]
    found = outline(maps, words, pixels, refine=refine, ignore_band=0.05)
    assert (np.stack([each.region for each in found.outlines]).sum(0) <= 1).all()
    for each in found.outlines:
        assert np.array_equal(found.mask == each.word.category, each.region)


def test_stuff_takes_what_no_thing_has_by_its_share_of_attention() -> None:
    thing, stuff = blob(slice(4, 12), slice(4, 12), high=0.2), blob(slice(4, 12), slice(4, 12), low=0.02, high=0.03)
    words = [Word(0, 1), Word(1, 2, thing=False)]  # even the stuff's own attention is highest on the thing
    found = outline(np.stack([thing, stuff]), words)
    truth = np.zeros((64, 64), bool)
    truth[16:48, 16:48] = True
    assert overlap(found.mask == 1, truth) > 0.85
    assert overlap(found.mask == 2, ~truth) > 0.85
    alone = outline(np.stack([thing, stuff]), [Word(1, 2)])
    assert overlap(alone.mask == 2, ~truth) < 0.1


def test_a_word_that_was_cut_off_leaves_the_others_as_they_are() -> None:
    maps = np.stack([np.zeros((16, 16), np.float32), blob(slice(4, 12), slice(2, 10))])
    found = outline(maps, [Word(0, 1), Word(1, 2)])
    assert not found.outlines[0].region.any()
    assert np.array_equal(found.mask == 2, outline(maps[1:]).mask == 7)


def test_small_components_are_dropped() -> None:
    region = np.zeros((10, 10), bool)
    region[0:5, 0:4], region[8, 8], region[5, 4] = True, True, True  # (5, 4) touches the large one by a corner
    kept, areas = keep_components(region, 0.1)
    assert areas == [21]
    assert kept[5, 4]
    assert not kept[8, 8]
    assert keep_components(region, 0.0)[1] == [21, 1]
    assert keep_components(np.zeros((3, 3), bool), 0.1)[1] == []


def test_only_small_holes_are_filled() -> None:
    region = np.ones((12, 12), bool)
    region[2, 2], region[5:9, 5:9], region[0, 6] = False, False, False
    filled = fill_holes(region, 4)
    assert filled[2, 2]
    assert not filled[5:9, 5:9].any()
    assert not filled[0, 6]  # open to the border
    assert np.array_equal(fill_holes(region, 0), region)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40))
def test_otsu_equals_exhaustive_search(values: list[float]) -> None:
    soft = np.array(values, np.float32)
    threshold, separability = split_levels(count_levels(soft, bins=16))
    binned = (np.clip((soft * 16).astype(int), 0, 15) + 0.5) / 16
    variances = []
    for cut in np.arange(1, 16) / 16:
        upper, lower = binned[binned >= cut], binned[binned < cut]
        share = len(upper) / len(binned)
        variances.append(share * (1 - share) * (upper.mean() - lower.mean()) ** 2 if 0 < share < 1 else 0.0)
    assert 0 <= separability <= 1
    if binned.var() > 1e-9:
        upper = binned >= threshold
        assert upper.mean() * (1 - upper.mean()) * (binned[upper].mean() - binned[~upper].mean()) ** 2 == pytest.approx(
            max(variances), rel=1e-6
        )
        assert separability == pytest.approx(max(variances) / binned.var(), rel=1e-6)


def test_two_values_are_cut_in_the_middle() -> None:
    threshold, separability = split_levels(count_levels(np.array([0.0, 0.0, 1.0])))
    assert threshold == pytest.approx(0.5, abs=0.01)
    assert separability == pytest.approx(1.0)


def test_a_fixed_threshold_is_kept_and_otsu_is_clipped() -> None:
    mostly_low = np.array([0.0] * 500 + [0.2] * 500 + [1.0])
    assert find_threshold(mostly_low, 0.75) == 0.75
    assert find_threshold(mostly_low, "otsu") == pytest.approx(0.3)


def test_a_pooled_threshold_is_that_of_all_images_together() -> None:
    asked = Annotation(refine=False)
    maps = [blob(slice(2, 4 + 3 * n), slice(2, 9), high=0.02 + 0.02 * n) for n in range(3)]
    images = [soften_words(soft[None], THING, GREY, asked) for soft in maps]
    absent = soften_words(np.zeros((1, 16, 16), np.float32), THING, GREY, asked)
    together = np.concatenate([words[0].soft.ravel() for words in images])
    assert pool_thresholds([*images, absent]) == {7: pytest.approx(find_threshold(together, "otsu"))}
    pooled = Annotation(refine=False, threshold="concept")
    found = outline_words(images[0], pooled, None, {7: 0.45})
    assert np.array_equal(found.mask, outline(maps[0][None], threshold=0.45).mask)


def test_scaling() -> None:
    assert scale_map(np.array([[2.0, 4.0], [3.0, 2.0]])).tolist() == [[0, 1], [0.5, 0]]
    assert not scale_map(np.full((2, 2), 5.0)).any()
