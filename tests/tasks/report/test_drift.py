"""Drift of scores: the distance, its critical value, what is compared with what, and what is flagged."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tailforge.tasks.report import drift as compare_scores_module
from tailforge.tasks.report.all_samples import gather_images
from tailforge.tasks.report.drift import (
    FEWEST,
    compare_scores,
    describe_quartiles,
    find_critical,
    judge_drift,
    measure_distance,
)
from tailforge.tasks.report.histograms import SCORES
from tests.support.report_tables import make_manifest, make_rejects, make_row

NUMBERS = st.lists(st.integers(-20, 20).map(float), min_size=4, max_size=40)


def make_images(values: list[float], concept: str = "gear", start: int = 0, **also: Any) -> pa.Table:
    """Accepted images with these CLIP scores; image k has the hash k."""
    rows = [make_row(start + k, concept, phash=start + k, clip_score=v, **also) for k, v in enumerate(values)]
    return gather_images(make_manifest(*rows), make_rejects())


@pytest.mark.parametrize(
    ("new", "old", "distance"),
    [([1, 2], [1, 2], 0.0), ([1, 2], [3, 4], 1.0), ([1, 3], [2, 4], 0.5), ([1, 1, 1, 2], [1, 2, 2, 2], 0.5)],
)
def test_the_distance_of_small_samples(new: list[float], old: list[float], distance: float) -> None:
    assert measure_distance(np.array(new, float), np.array(old, float)) == distance


@given(NUMBERS, NUMBERS)
def test_the_distance_is_that_of_scipy(new: list[float], old: list[float]) -> None:
    expected = stats.ks_2samp(new, old, method="asymp").statistic
    assert measure_distance(np.array(new), np.array(old)) == pytest.approx(expected, abs=1e-12)


def test_the_critical_value_is_that_of_the_tables() -> None:
    """1.36 and 1.63 times sqrt((n + m) / n m) at 5 % and 1 %, as in every table of the two-sample test."""
    assert find_critical(100, 100, 0.05) == pytest.approx(1.358 * (2 / 100) ** 0.5, abs=1e-3)
    assert find_critical(50, 200, 0.01) == pytest.approx(1.628 * (250 / 10_000) ** 0.5, abs=1e-3)


def test_only_values_that_the_earlier_version_has_not_are_compared() -> None:
    before = make_images([0.3] * 40)
    assert compare_scores(before, before, "1.0.0") == []  # nothing is new
    grown = pa.concat_tables([before, make_images([0.5] * 35, start=40)])
    (added,) = compare_scores(grown, before, "1.0.0")
    assert (added.score, added.concept, added.version) == ("clip_score", "", "1.0.0")
    assert (added.new, added.old, added.distance) == (35, 40, 1.0)
    assert (added.median_new, added.median_old) == (pytest.approx(0.5), pytest.approx(0.3))
    (scored_again,) = compare_scores(make_images([0.4] * 40), before, "1.0.0")  # the same images, another scorer
    assert (scored_again.new, scored_again.distance) == (40, 1.0)
    redrawn = make_images([0.3] * 40, start=0)
    redrawn = redrawn.set_column(redrawn.column_names.index("phash"), "phash", pa.array(range(100, 140), pa.uint64()))
    (same_scores,) = compare_scores(redrawn, before, "1.0.0")
    assert (same_scores.new, same_scores.distance) == (40, 0.0)


def test_too_few_images_are_not_compared() -> None:
    many, few = make_images([0.3] * FEWEST), make_images([0.5] * (FEWEST - 1), start=1000)
    assert compare_scores(few, many, "1.0.0") == compare_scores(many, few, "1.0.0") == []


def test_of_many_images_some_at_even_steps_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_scores_module, "MOST", 50)
    before, after = make_images([k / 200 for k in range(200)]), make_images([k / 120 for k in range(120)], start=900)
    (found,) = compare_scores(after, before, "1.0.0")
    assert (found.new, found.old) == (40, 50)
    assert found.distance < 0.03  # both are even on 0 to 1


def test_concepts_are_compared_where_each_has_images_enough() -> None:
    before = pa.concat_tables([make_images([0.3] * 40), make_images([0.3] * 20, "hook", 100)])
    after = pa.concat_tables([make_images([0.5] * 40, start=200), make_images([0.3] * 20, "hook", 300)])
    found = compare_scores(after, before, "1.0.0", ["gear", "hook"])
    assert [(each.concept, each.new, each.distance) for each in found] == [
        ("", 60, pytest.approx(2 / 3)),
        ("gear", 40, 1.0),
    ]


def test_rejected_and_failed_images_count_as_made() -> None:
    manifest = make_manifest(make_row(1, "gear", clip_score=0.3), make_row(2, "gear", parent_id="1", clip_score=0.9))
    rejects = make_rejects(
        make_row(3, "gear", reason="surplus", clip_score=0.4),
        make_row(4, "gear", reason="clip_score_low", clip_score=0.1),
        make_row(5, "gear", status="failed", error="NaN"),
    )
    images = gather_images(manifest, rejects)
    assert images["outcome"].to_pylist() == ["accepted", "surplus", "rejected", "failed"]
    low, middle, high, number = describe_quartiles(images)["clip_score"]
    assert (low, middle, high, number) == (pytest.approx(0.2), pytest.approx(0.3), pytest.approx(0.35), 3)


def test_a_drift_is_flagged_where_it_is_certain_and_large() -> None:
    rng = np.random.default_rng(3)
    before = make_images(rng.normal(0.0, 1, 2000).tolist())
    small = make_images(rng.normal(0.3, 1, 2000).tolist(), start=5000)  # certain, but small
    large = make_images(rng.normal(1.0, 1, 2000).tolist(), start=5000)
    few = make_images(rng.normal(0.6, 1, 30).tolist(), start=5000)  # large, but by chance perhaps
    (little,), (much,), (unsure,) = (judge_drift(compare_scores(each, before, "1")) for each in (small, large, few))
    assert little.critical < little.distance < 0.2
    assert not little.flagged
    assert much.flagged
    assert 0.2 < unsure.distance < unsure.critical
    assert not unsure.flagged


def test_all_comparisons_of_a_report_share_one_level() -> None:
    before, after = make_images([0.3] * 40), make_images([0.5] * 40, start=100)
    one, two = compare_scores(after, before, "1"), compare_scores(after, before, "2")
    alone, (first, second) = judge_drift(one)[0], judge_drift([*one, *two])
    assert alone.critical == find_critical(40, 40, 0.01)
    assert first.critical == second.critical == find_critical(40, 40, 0.005)


def test_tables_of_an_older_schema_have_no_score_rather_than_none() -> None:
    manifest, rejects = make_manifest(make_row(1, "gear", clip_score=0.3)), make_rejects()
    old = gather_images(manifest.drop_columns(["clip_score", "phash"]), rejects.drop_columns(["crop_score"]))
    assert old.column_names == ["sample_id", "concept", "phash", *SCORES, "outcome"]
    assert describe_quartiles(old) == {}
