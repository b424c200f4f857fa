"""Settings that would have no effect are named where the author gave them, and only there."""

from typing import Any

import pytest

from schemas.idle_settings import find_idle_settings
from schemas.recipe import Recipe, parse_recipe

SEARCH = {"kind": "seed_select", "encoder": {"model": "clip"}, "steps": 8}


def recipe(
    engine: dict[str, Any], references: bool = True, annotation: dict[str, Any] | None = None, **quality: Any
) -> Recipe:
    data = {
        "name": "small",
        "description": "A test.",
        "seed": 1,
        "concepts": [{"name": "gear", "wanted": 3} | ({"references": "photos"} if references else {})],
        "generator": {"model": "catalog:workshop"},
        "engine": engine,
        "quality": quality,
        "annotation": annotation or {},
    }
    return parse_recipe(data, "test")


@pytest.mark.parametrize(
    ("engine", "quality"),
    [
        (SEARCH, {}),
        (SEARCH | {"candidates": 1}, {}),
        (SEARCH | {"candidates": 2, "finalists": 2, "screening_steps": 8, "grad_steps": 8}, {"near_duplicates": None}),
        ({"kind": "seed_select", "encoder": {"model": "clip"}, "preset": "published"}, {}),
        (SEARCH | {"mode": "bootstrapped", "found_seeds": 1, "mixes": 2, "fresh_share": 0.1}, {}),
        ({"kind": "plain"}, {}),
        ({"kind": "plain", "guide": {"model": "before"}, "guidance": 1.5}, {}),
        ({"kind": "natural_inversion"}, {"near_duplicates": {"max_distance": 1}}),
        ({"kind": "plain"}, {"near_duplicates": None, "scorer": {"model": "clip"}}),
    ],
)
def test_what_has_an_effect_passes(engine: dict[str, Any], quality: dict[str, Any]) -> None:
    assert find_idle_settings(recipe(engine, **quality)) == []


@pytest.mark.parametrize(
    ("engine", "quality", "message"),
    [
        (SEARCH | {"candidates": 1, "finalists": 2}, {}, "engine.finalists 2 is above engine.candidates 1"),
        (SEARCH | {"finalists": 9}, {}, "engine.finalists 9 is above engine.candidates 8"),
        (SEARCH | {"kind": "zero_order", "screening_steps": 9}, {}, "engine.screening_steps 9 is above engine.steps 8"),
        (SEARCH | {"grad_steps": 9}, {}, "engine.grad_steps 9 is above engine.steps 8"),
        (SEARCH | {"found_seeds": 3}, {}, "engine.found_seeds has no effect with engine.mode full"),
        (SEARCH | {"mixes": 4}, {}, "engine.mixes has no effect with engine.mode full"),
        (SEARCH | {"mode": "full", "fresh_share": 0.1}, {}, "engine.fresh_share has no effect with engine.mode full"),
        (
            {"kind": "plain", "guide": {"model": "before"}, "guidance": 1},
            {"near_duplicates": {"max_distance": 1}},
            "engine.guide has no effect with engine.guidance 1, which switches guidance off; raise it above 1",
        ),
        ({"kind": "plain"}, {"near_duplicates": None}, "'gear' has references, but engine plain reads none"),
    ],
)
def test_what_has_none_is_named(engine: dict[str, Any], quality: dict[str, Any], message: str) -> None:
    (line,) = find_idle_settings(recipe(engine, **quality))
    assert message in line


def test_a_gate_on_references_needs_some() -> None:
    gates = {"scorer": {"model": "clip"}, "gates": {"reference_similarity": {"max": 0.9}}}
    assert find_idle_settings(recipe({"kind": "plain"}, **gates)) == []
    (line,) = find_idle_settings(recipe({"kind": "plain"}, references=False, **gates))
    assert "quality.gates.reference_similarity" in line


@pytest.mark.parametrize("kind", ["plain", "natural_inversion"])
def test_near_duplicates_are_compared_with_references_where_there_are_some(kind: str) -> None:
    engine = {"kind": kind}
    for asked in ({"against_references": False}, {"max_distance": 2}):
        assert find_idle_settings(recipe(engine, references=False, near_duplicates=asked)) == []
    asked = {"against_references": True}
    assert find_idle_settings(recipe(engine, near_duplicates=asked)) == []
    (line,) = find_idle_settings(recipe(engine, references=False, near_duplicates=asked))
    assert "quality.near_duplicates.against_references compares with reference photographs, but no concept has" in line


def test_settings_of_an_inversion_are_looked_at() -> None:
    engine = {"kind": "natural_inversion", "form": "pixels", "width": 8}
    (line,) = find_idle_settings(recipe(engine))
    assert "engine.width has no effect with engine.form pixels" in line


@pytest.mark.parametrize(
    ("engine", "annotation", "idle"),
    [
        ({"kind": "plain"}, {"noise": 0.2}, "noise has no effect with annotation.kind cross_attention"),
        ({"kind": "plain"}, {"kind": "renoised_attention", "window": [0.1, 0.4]}, "window has no effect"),
        ({"kind": "natural_inversion"}, {"window": [0.1, 0.4]}, "window has no effect"),
        ({"kind": "plain"}, {"kind": "renoised_attention", "affinity": 2}, "affinity has no effect"),
        ({"kind": "natural_inversion"}, {"affinity": 2}, "affinity has no effect"),
        ({"kind": "plain"}, {"affinity": 2}, None),
        ({"kind": "plain"}, {"kind": "renoised_attention", "draws": 4}, None),
        ({"kind": "plain"}, {"window": [0.1, 0.4]}, None),
    ],
)
def test_annotation_takes_the_settings_of_its_kind(
    engine: dict[str, Any], annotation: dict[str, Any], idle: str | None
) -> None:
    found = find_idle_settings(recipe(engine, annotation=annotation))
    assert [idle in line for line in found] == [True] if idle else found == []
