"""Gates, quantiles, near duplicates and quotas, against plain reference implementations."""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.settings.gates import GATES, Gate
from tailforge.tasks.methods.planning.samples import assign_split, identify_sample
from tailforge.tasks.methods.quality.gates import (
    CANDIDATES,
    count_accepted,
    first_failed_gate,
    quantile_bounds,
    quantile_names,
    select,
)


@dataclass(frozen=True)
class Candidate:
    """A row of the table that is decided on."""

    sample_id: str
    concept: str
    attempt: int
    replica: int
    prompt_index: int
    phash: int | None = None
    reason: str | None = None
    parent: str | None = None
    review: str | None = None
    passed_over: str | None = None
    scores: dict[str, float | None] = field(default_factory=dict)


def tabulate(recipe: Recipe, candidates: Sequence[Candidate]) -> pa.Table:
    schema = pa.schema([*CANDIDATES, *((name, pa.float64()) for name in quantile_names(recipe))])
    return pa.Table.from_pylist([asdict(each) | each.scores for each in candidates], schema)


def choose(recipe: Recipe, candidates: Sequence[Candidate], references: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Reason and split of each."""
    chosen: list[dict[str, Any]] = select(recipe, tabulate(recipe, candidates), references).to_pylist()
    return chosen


def make_recipe(wanted: int = 3, splits: dict[str, float] | None = None, **quality: Any) -> Recipe:
    data = {
        "name": "parts",
        "description": "parts",
        "seed": 5,
        "generator": {"model": "somewhere"},
        "concepts": [{"name": "gear", "requested": wanted}, {"name": "hook", "requested": wanted}],
        "quality": {"gates": "none", "near_duplicates": None, **quality},
        **({"splits": splits} if splits else {}),
    }
    return parse_recipe(data, "test")


def make(
    prompt: int, concept: str = "gear", attempt: int = 0, replica: int = 0,
    phash: int | None = None, reason: str | None = None,
    **scores: float | None,
) -> Candidate:  # fmt: skip
    sample_id = identify_sample("parts", 5, concept, prompt, replica, attempt)
    return Candidate(sample_id, concept, attempt, replica, prompt, phash, reason, scores=scores)


def reasons(recipe: Recipe, *candidates: Candidate, references: tuple[int, ...] = ()) -> list[str | None]:
    return [choice["reason"] for choice in choose(recipe, candidates, references)]


@pytest.mark.parametrize(
    ("gate", "score", "reason"),
    [
        ({"min": 0.2}, 0.1, "contrast_low"), ({"min": 0.2}, 0.2, None), ({"max": 0.2}, 0.2, None),
        ({"max": 0.2}, 0.3, "contrast_high"), ({"min": 0.2, "max": 0.4}, 0.3, None), ({"min": 0.2}, None, None),
        ({"min_quantile": 0.5}, 0.0, None),
    ],
)  # fmt: skip
def test_bounds_are_inclusive_and_name_their_side(
    gate: dict[str, float], score: float | None, reason: str | None
) -> None:
    assert first_failed_gate({"contrast": Gate(**gate)}, GATES, {"contrast": score}) == reason


def test_the_first_gate_in_order_gives_the_reason() -> None:
    gates = {name: Gate(min=1.0) for name in ("mask_area", "sharpness", "brightness")}
    assert first_failed_gate(gates, GATES, dict.fromkeys(GATES, 0.0)) == "brightness_low"
    assert first_failed_gate(gates, GATES[1:], dict.fromkeys(GATES, 0.0)) == "sharpness_low"


def test_quantiles_are_of_the_concept_and_the_first_round() -> None:
    recipe = make_recipe(100, gates={"sharpness": {"min_quantile": 0.25, "max_quantile": 0.75}})
    gears = [make(i, sharpness=float(i)) for i in range(5)]
    hooks = [make(i, "hook", sharpness=100.0 + i) for i in range(5)]
    later = [make(i, attempt=1, sharpness=value) for i, value in enumerate((0.5, 2.0, 50.0))]
    low, high = quantile_bounds(recipe, tabulate(recipe, gears + later))["sharpness"]
    assert low is not None
    assert high is not None
    assert (low.tolist(), high.tolist()) == ([1.0, -math.inf], [3.0, math.inf])
    expected = ["sharpness_low", None, None, None, "sharpness_high"]
    assert reasons(recipe, *gears, *hooks, *later) == [*expected, *expected, "sharpness_low", None, "sharpness_high"]


def test_rejected_samples_count_for_quantiles_but_those_without_score_do_not() -> None:
    recipe = make_recipe(100, gates={"clip_score": {"min_quantile": 0.5}}, scorer={"model": "somewhere"})
    rows = [
        make(0, clip_score=0.0, reason="mask_area_low"),
        make(1, clip_score=1.0),
        make(2, reason="blank"),
        make(3, clip_score=2.0),
    ]
    low, high = quantile_bounds(recipe, tabulate(recipe, rows))["clip_score"]
    assert low is not None
    assert low[0] == 1.0
    assert high is None
    assert reasons(recipe, *rows) == ["mask_area_low", None, "blank", None]


def test_the_first_wanted_in_the_order_of_the_plan_stay() -> None:
    rows = [make(1, attempt=1), make(0, replica=1), make(2), make(1), make(0, reason="blank"), make(0, "hook")]
    assert reasons(make_recipe(3), *rows) == ["surplus", None, None, None, "blank", None]


def test_later_of_two_near_images_is_left_out_also_across_concepts() -> None:
    recipe = make_recipe(9, near_duplicates={"max_distance": 2})
    rows = [
        make(1, phash=0b0111),
        make(0, phash=0b0000),
        make(0, "hook", phash=0b0001),
        make(2, phash=2**60 - 1),
        make(2, "hook", phash=None),
        make(3, phash=0b0000, reason="failed"),
    ]
    assert reasons(recipe, *rows) == [None, None, "near_duplicate", None, None, "failed"]


def test_a_rejected_image_rejects_no_other() -> None:
    recipe = make_recipe(9, near_duplicates={"max_distance": 2})
    assert reasons(recipe, make(0, phash=5, reason="sharpness_low"), make(1, phash=5)) == ["sharpness_low", None]


def test_images_near_a_reference_are_left_out_when_asked() -> None:
    rows = [make(0, phash=0b11), make(1, phash=0b11111111)]
    near = make_recipe(9, near_duplicates={"max_distance": 2})
    apart = make_recipe(9, near_duplicates={"max_distance": 2, "against_references": False})
    assert reasons(near, *rows, references=(0,)) == ["near_reference", None]
    assert reasons(apart, *rows, references=(0,)) == [None, None]


def test_splits_follow_from_the_id_and_only_for_accepted_samples() -> None:
    shares = {"train": 0.5, "validation": 0.3, "test": 0.2}
    recipe = make_recipe(50, splits=shares)
    rows = [make(i, reason="blank" if i % 3 == 0 else None) for i in range(60)]
    choices = choose(recipe, rows)
    assert [c["split"] for c in choices] == [None if r.reason else assign_split(r.sample_id, shares) for r in rows]
    assert len({c["split"] for c in choices}) == 4


@given(seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_the_order_in_which_samples_come_decides_nothing(seed: int) -> None:
    shuffle = random.Random(seed)
    recipe = make_recipe(4, near_duplicates={"max_distance": 1}, gates={"sharpness": {"min_quantile": 0.2}})
    rows = [
        make(p, concept, attempt, replica, shuffle.randrange(64), shuffle.choice([None, None, "blank"]),
             sharpness=shuffle.random())
        for concept in ("gear", "hook") for attempt in (0, 1) for replica in (0, 1) for p in range(3)
    ]  # fmt: skip
    expected = {row.sample_id: choice for row, choice in zip(rows, choose(recipe, rows, [7]), strict=True)}
    shuffle.shuffle(rows)
    assert {row.sample_id: choice for row, choice in zip(rows, choose(recipe, rows, [7]), strict=True)} == expected


def test_more_rounds_change_nothing_of_the_rounds_before() -> None:
    recipe = make_recipe(9, near_duplicates={"max_distance": 1}, gates={"sharpness": {"min_quantile": 0.3}})
    first = [make(i, phash=i * 9, sharpness=float(i)) for i in range(8)]
    later = [make(i, attempt=1, phash=i * 9, sharpness=float(-i)) for i in range(8)]
    assert choose(recipe, first) == choose(recipe, first + later)[:8]


def test_accepted_samples_are_counted_by_concept() -> None:
    table = pa.table({"concept": ["gear", "hook", "gear", "nut"], "accepted": [True, False, True, False]})
    assert count_accepted(table) == {"gear": 2, "hook": 0, "nut": 0}


NAN = float("nan")


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"min": 0.2}, "verifier_agreement_low"),
        ({"max": 0.2}, "verifier_agreement_high"),
        ({"min_quantile": 0.5}, None),
    ],
)
def test_a_score_that_is_no_number_misses_every_bound(gate: dict[str, float], reason: str | None) -> None:
    assert first_failed_gate({"verifier_agreement": Gate(**gate)}, GATES, {"verifier_agreement": NAN}) == reason


def test_a_score_that_is_no_number_moves_no_quantile_and_passes_none() -> None:
    gates = {"verifier_agreement": {"min_quantile": 0.5}}
    recipe = make_recipe(9, gates=gates, verifier={"model": "somewhere"})
    rows = [make(place, verifier_agreement=score) for place, score in enumerate((0.0, NAN, 1.0, 2.0))]
    low, _ = quantile_bounds(recipe, tabulate(recipe, rows))["verifier_agreement"]
    assert low is not None
    assert low[0] == 1.0
    assert reasons(recipe, *rows) == ["verifier_agreement_low", "verifier_agreement_low", None, None]
    alone = [make(0, verifier_agreement=NAN), make(1)]
    assert reasons(recipe, *alone) == ["verifier_agreement_low", None]


def test_a_mended_sample_takes_its_parents_place_if_it_passes() -> None:
    def candidate(sample_id: str, number: int, reason: str | None = None, parent: str | None = None) -> Candidate:
        return Candidate(sample_id, "gear", 0, 0, number, None, reason, parent)

    two = make_recipe(wanted=2)
    plan = [candidate("a", 0), candidate("b", 1, "sharpness_low"), candidate("c", 2)]
    for refused, expected in ((None, ["a", "B"]), ("sharpness_low", ["a", "c"])):
        all_of_them = [*plan, candidate("B", 1, refused, parent="b")]
        choices = choose(two, all_of_them)
        assert [
            c.sample_id for c, choice in zip(all_of_them, choices, strict=True) if choice["reason"] is None
        ] == expected
    before = choose(two, plan)
    mended = choose(two, [*plan, candidate("A", 0, parent="a")])
    assert [choice["reason"] for choice in mended] == ["repaired", "sharpness_low", None, None]
    assert mended[3]["split"] == before[0]["split"]


def test_a_person_overrules_gates_but_neither_facts_nor_the_whole_build() -> None:
    recipe = make_recipe(wanted=3, near_duplicates={"max_distance": 3}, gates={"contrast": {"min_quantile": 0.7}})
    good, bad = {"contrast": 0.9}, {"contrast": 0.1}
    rows = [
        make(0, phash=0, **good), make(1, phash=0xFF, **good), make(2, phash=0xFF00, reason="brightness_low", **good),
        make(3, phash=0xFF0000, **bad), make(4, reason="failed"), make(5, phash=0xFF000000, reason="blank", **bad),
        make(6, phash=1, reason="contrast_low", **bad), make(7, phash=0xFF00000000, **bad),
        make(8, phash=0xFF0000000000, reason="sharpness_low", **bad),
    ]  # fmt: skip
    plain = ["brightness_low", "contrast_low", "failed", "blank", "contrast_low", "contrast_low", "sharpness_low"]
    assert reasons(recipe, *rows) == [None, None, *plain]
    decided = ["accept", "reject", "accept", "accept", "accept", "accept", "accept", "accept", "reject"]
    reviewed = [replace(row, review=decision) for row, decision in zip(rows, decided, strict=True)]
    assert reasons(recipe, *reviewed) == [
        None, "review_rejected", None, None, "failed", "blank", "near_duplicate", "surplus", "sharpness_low",
    ]  # fmt: skip


def test_a_mended_sample_that_a_person_rejects_gives_its_place_back() -> None:
    recipe, original = make_recipe(), make(0)
    mended = replace(make(0), sample_id="f" * 16, parent=original.sample_id)
    assert reasons(recipe, original, mended) == ["repaired", None]
    assert reasons(recipe, original, replace(mended, review="reject")) == [None, "review_rejected"]


def test_images_that_a_steered_build_does_not_keep_go_unless_a_person_accepted_them() -> None:
    rows = [make(prompt, phash=prompt << 20) for prompt in range(4)]
    marked = [rows[0], *(replace(row, passed_over="doubted") for row in rows[1:3]), replace(rows[3], reason="blank")]
    marked[2] = replace(marked[2], review="accept")
    assert reasons(make_recipe(), *marked) == [None, "doubted", None, "blank"]
