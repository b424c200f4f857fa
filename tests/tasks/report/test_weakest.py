"""The accepted images nearest to a rejection: small cases by hand, and what holds for any scores."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.tasks.report.weakest import Weak, choose_weakest
from tests.support.report_tables import make_manifest, make_recipe, make_rejects, make_row


def gated(**gates: Any) -> Recipe:
    return parse_recipe({**make_recipe().model_dump(), "quality": {"gates": gates}}, "recipe.yaml")


def choose(recipe: Recipe, *values: float, score: str = "sharpness", rejected: tuple[float, ...] = ()) -> list[Weak]:
    manifest = make_manifest(*(make_row(k, "gear", **{score: value}) for k, value in enumerate(values)))
    rejects = make_rejects(*(make_row(100 + k, "gear", **{score: value}) for k, value in enumerate(rejected)))
    return choose_weakest(recipe, manifest, rejects)


@pytest.mark.parametrize(
    ("gate", "margins"),
    [
        ({"min": 10}, {0: 0.1, 1: 1.0, 2: 2.0}),  # the median 20 is 10 above the bound
        ({"max": 40}, {2: 0.5, 1: 1.0, 0: 1.45}),  # 20 below it
        ({"min": 10, "max": 40}, {0: 0.1, 2: 0.5, 1: 1.0}),
        ({"min_quantile": 0.25}, {0: 0.1, 1: 1.0, 2: 2.0}),
    ],
)
def test_margins_by_hand(gate: dict[str, float], margins: dict[int, float]) -> None:
    # The lower quartile of the first round, 9, 10, 11, 20 and 30, is 10.
    found = choose(gated(sharpness=gate), 11.0, 20.0, 30.0, rejected=(9.0, 10.0))
    assert {int(each.sample_id, 16): each.margin for each in found} == pytest.approx(margins)
    assert list(margins) == [int(each.sample_id, 16) for each in found]


def test_a_score_without_a_gate_counts_from_its_least_value_if_more_is_better() -> None:
    (weak, *_) = choose(gated(), 0.2, 0.8, 0.9, score="verifier_agreement")
    assert weak.score == "verifier_agreement"
    assert (weak.value, weak.margin) == pytest.approx((0.2, 0.25))
    assert choose(gated(), 0.2, 0.8, 0.9, score="mask_area") == []


def test_one_concept_does_not_fill_the_list_and_copies_are_left_out() -> None:
    rows = [make_row(k, "gear", sharpness=1.0 + k) for k in range(20)]
    rows += [make_row(50 + k, "hook", sharpness=90.0 + k) for k in range(20)]
    rows += [make_row(99, "hook", sharpness=0.1, parent_id=f"{50:016x}")]
    found = choose_weakest(gated(), make_manifest(*rows), make_rejects())
    assert [int(each.sample_id, 16) for each in found] == [*range(6), *range(50, 56)]


scores = st.lists(st.one_of(st.none(), st.floats(0, 1e6)), min_size=1, max_size=20)


@given(scores, st.floats(0, 1e6))
def test_the_weakest_of_any_scores_has_the_smallest(values: list[float | None], bound: float) -> None:
    recipe = gated(sharpness={"min": bound})
    rows = [make_row(k, "gear", sharpness=value) for k, value in enumerate(values)]
    found = choose_weakest(recipe, make_manifest(*rows), make_rejects())
    margins = [each.margin for each in found]
    assert margins == sorted(margins)
    if found:
        assert found[0].value <= min(value for value in values if value is not None) + 1e-3 * abs(found[0].value)
