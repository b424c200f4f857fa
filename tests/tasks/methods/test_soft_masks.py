"""Soft maps become masks: thresholds against exhaustive search, components by hand, and no mask out of nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.quality import Annotation
from tasks.methods.soft_masks import (
    combine_confidence,
    find_threshold,
    keep_components,
    mask_from_attention,
    otsu_threshold,
    resize_map,
    scale_map,
)


def blob(rows: slice, columns: slice, size: int = 16, low: float = 0.01, high: float = 0.05) -> np.ndarray:
    soft = np.full((size, size), low, np.float32)
    soft[rows, columns] = high
    return soft


def test_a_clear_blob_is_found() -> None:
    found = mask_from_attention(blob(slice(4, 12), slice(2, 10))[None], 0, 7, 64, 64, Annotation())
    truth = np.zeros((64, 64), bool)
    truth[16:48, 8:40] = True
    assert set(np.unique(found.mask)) == {0, 7}
    overlap = ((found.mask == 7) & truth).sum() / ((found.mask == 7) | truth).sum()
    assert overlap > 0.9
    assert found.scores.components == 1
    assert found.scores.area == pytest.approx((found.mask == 7).mean())
    assert found.scores.confidence > 0.8


def test_size_need_not_be_square() -> None:
    found = mask_from_attention(blob(slice(4, 12), slice(2, 10))[None], 0, 1, 40, 72, Annotation())
    assert found.mask.shape == (40, 72)
    assert found.mask.dtype == np.uint8


@pytest.mark.parametrize("value", [0.0, 0.02])
def test_a_flat_map_has_no_mask(value: float) -> None:
    found = mask_from_attention(np.full((1, 8, 8), value, np.float16), 0, 1, 32, 32, Annotation())
    assert not found.mask.any()
    assert found.scores.confidence == 0
    assert found.scores.components == 0


def test_a_clear_blob_is_trusted_more_than_noise() -> None:
    noise = np.random.default_rng(0).uniform(0.01, 0.05, (1, 16, 16)).astype(np.float32)
    clear = mask_from_attention(blob(slice(4, 12), slice(4, 12))[None], 0, 1, 64, 64, Annotation())
    doubtful = mask_from_attention(noise, 0, 1, 64, 64, Annotation())
    assert doubtful.scores.confidence < 0.6 < clear.scores.confidence


def test_a_band_below_the_threshold_is_ignored() -> None:
    soft = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    found = mask_from_attention(soft[None], 0, 3, 64, 64, Annotation(threshold=0.5, ignore_band=0.2))
    assert set(np.unique(found.mask)) == {0, 3, 255}
    assert 0.15 < (found.mask == 255).mean() < 0.25
    assert (found.mask[:, -1] == 3).all()
    assert (found.mask[:, 0] == 0).all()


def test_small_components_are_dropped() -> None:
    region = np.zeros((10, 10), bool)
    region[0:5, 0:4], region[8, 8], region[5, 4] = True, True, True  # (5, 4) touches the large one by a corner
    kept, areas = keep_components(region, 0.1)
    assert areas == [21]
    assert kept[5, 4]
    assert not kept[8, 8]
    assert keep_components(region, 0.0)[1] == [21, 1]
    assert keep_components(np.zeros((3, 3), bool), 0.1)[1] == []


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40))
def test_otsu_equals_exhaustive_search(values: list[float]) -> None:
    soft = np.array(values, np.float32)
    threshold, separability = otsu_threshold(soft, bins=16)
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
    threshold, separability = otsu_threshold(np.array([0.0, 0.0, 1.0]))
    assert threshold == pytest.approx(0.5, abs=0.01)
    assert separability == pytest.approx(1.0)


def test_a_fixed_threshold_is_kept_and_otsu_is_clipped() -> None:
    mostly_low = np.array([0.0] * 500 + [0.2] * 500 + [1.0])
    assert find_threshold(mostly_low, 0.75)[0] == 0.75
    assert find_threshold(mostly_low, "otsu")[0] == pytest.approx(0.3)


def test_scaling_and_resizing() -> None:
    assert scale_map(np.array([[2.0, 4.0], [3.0, 2.0]])).tolist() == [[0, 1], [0.5, 0]]
    assert not scale_map(np.full((2, 2), 5.0)).any()
    assert resize_map(np.full((4, 4), 0.25, np.float16), 10, 6).shape == (10, 6)
    assert np.allclose(resize_map(np.full((4, 4), 0.25, np.float16), 10, 6), 0.25)


def test_confidence_is_between_zero_and_one_and_one_bad_part_spoils_it() -> None:
    assert combine_confidence(1.0, 1.0, 5.0, [10]) == 1.0
    assert combine_confidence(0.0, 1.0, 5.0, [10]) == 0.0
    assert combine_confidence(0.5, 0.5, 1.5, [5, 5]) == pytest.approx(0.5)
