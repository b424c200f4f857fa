"""Settings that would have no effect are named where the author gave them, and only there."""

from typing import Any

import pytest

from tailforge.schemas.checks.unused_settings import find_idle_settings
from tailforge.schemas.recipe import Recipe, parse_recipe

SEARCH = {"kind": "seed_select", "encoder": {"model": "clip"}, "steps": 8}


def recipe(
    engine: dict[str, Any], references: bool = True, annotation: dict[str, Any] | None = None, **quality: Any
) -> Recipe:
    data = {
        "name": "small",
        "description": "A test.",
        "seed": 1,
        "concepts": [{"name": "gear", "requested": 3} | ({"references": "photos"} if references else {})],
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


def written(**changes: Any) -> Recipe:
    data: dict[str, Any] = {
        "name": "small",
        "description": "A test.",
        "seed": 1,
        "concepts": [{"name": "gear", "requested": 3}, {"name": "hex nut", "requested": 3}],
        "generator": {"model": "catalog:workshop"},
    }
    return parse_recipe(data | changes, "test")


CLIP = {"scorer": {"model": "clip"}}
LONE = [{"name": "gear", "requested": 3}]
OWN = [{"name": "gear", "requested": 3, "templates": ["a {concept}"]}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concepts": LONE, "quality": CLIP | {"gates": {"concept_margin": {"min": 0.9}}}}, "there is no other"),
        ({"quality": {"gates": {"sharpness": {"min": None}}}}, "no bound is given"),
        ({"quality": {"gates": {"sharpness": {"min": 0}}}}, "min 0 lets every image through"),
        ({"quality": {"gates": {"sharpness": {"min": 1, "max_quantile": 1}}}}, "max_quantile 1 lets every image"),
        ({"quality": {"gates": {"mask_area": {"min_quantile": 0}}}}, "min_quantile 0 lets every image through"),
        ({"quality": {"gates": {"brightness": {"min": 20}}}}, "is between 0 and 1, so no image could pass"),
        ({"quality": CLIP | {"gates": {"clip_score": {"max": 1}}}}, "max 1 lets every image through"),
        ({"prompts": {"templates": ["a {concept}"]}, "concepts": OWN}, "prompts.templates has no effect"),
        ({"prompts": {"attributes": {"place": ["shelf"]}}}, "no template holds {place}"),
        (
            {"prompts": {"templates": ["a {concept} on a {on}"], "attributes": {"on": {"shelf": 1, "wall": 2}}}},
            "the weights have no effect with prompts.balance balanced",
        ),
        ({"prompts": {"lexicon": {"geer": ["cog"]}}}, "'geer' is no concept"),
        ({"sharding": {"jpeg_quality": 90}}, "sharding.jpeg_quality has no effect"),
        ({"engine": {"negative_prompt": "blurred", "guidance": 1}}, "engine.negative_prompt has no effect"),
    ],
)
def test_gates_and_words_without_effect_are_named(changes: dict[str, Any], message: str) -> None:
    (line,) = find_idle_settings(written(**changes))
    assert message in line


@pytest.mark.parametrize(
    "changes",
    [
        {"quality": CLIP | {"gates": {"concept_margin": {"min": 0.0}, "clip_score": {"min": 0.0}}}},
        {"quality": {"gates": {"sharpness": {"min": 0.5, "max": 1000}, "mask_area": {"min_quantile": 0.05}}}},
        {"prompts": {"templates": ["a {concept} on a {on}"], "attributes": {"on": {"shelf": 2, "wall": 2}}}},
        {"prompts": {"lexicon": {"Hex  Nut": ["nut"]}}},
        {"sharding": {"jpeg_quality": 90, "image_format": "jpg"}},
    ],
)
def test_gates_and_words_with_an_effect_pass(changes: dict[str, Any]) -> None:
    assert find_idle_settings(written(**changes)) == []


def test_gradient_settings_without_gradient_steps_are_named() -> None:
    search = SEARCH | {"iterations": 0}
    assert find_idle_settings(recipe(search)) == []
    assert find_idle_settings(recipe(search | {"preset": "published", "candidates": 4})) == []
    for name, value in (("optimizer", "adamw"), ("patience", 2), ("grad_steps", 2)):
        (line,) = find_idle_settings(recipe(search | {name: value}))
        assert f"engine.{name} has no effect with engine.iterations 0" in line
    (line,) = find_idle_settings(recipe(SEARCH | {"repulsion_weight": 1, "batch_size": 1}))
    assert "engine.repulsion_weight has no effect" in line
