"""Slots of prompts that a recipe wants masks of: what their values become, and what is refused."""

from typing import Any

import pytest

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import Recipe, parse_recipe


def recipe(annotation: dict[str, Any], **changes: Any) -> Recipe:
    data = {
        "name": "parts",
        "description": "Parts.",
        "seed": 1,
        "concepts": [{"name": "gear", "requested": 1, "synonyms": ["Cog"]}, {"name": "hook", "requested": 1}],
        "prompts": {
            "templates": ["a {concept} on a {surface}", "a {concept} and a {other} on a steel table"],
            "attributes": {"surface": {"bench": 2, "floor": 1}, "other": ["cog", "bolt", "Hook"], "idle": ["x"]},
            "lexicon": {"gear": ["toothed wheel"]},
        },
        "generator": {"model": "catalog:workshop"},
        "annotation": annotation,
        **changes,
    }
    return parse_recipe(data, "parts.yaml")


def names(made: Recipe) -> list[tuple[str, bool]]:
    return [(category.name, category.thing) for category in made.categories]


def test_without_slots_the_categories_are_the_concepts() -> None:
    assert names(recipe({})) == [("gear", True), ("hook", True)]


def test_values_follow_the_concepts_things_first_and_words_for_concepts_are_no_categories() -> None:
    made = recipe({"things": ["concept", "other"], "stuff": ["surface"]})
    assert names(made) == [("gear", True), ("hook", True), ("bolt", True), ("bench", False), ("floor", False)]
    found = [("concept", "cog", "gear"), ("other", "bolt", "gear"), ("other", "cog", "hook"), ("other", "Hook", "gear"),
             ("surface", "floor", "hook"), ("concept", "crook", "hook")]  # fmt: skip
    assert [made.category_id(*each) for each in found] == [1, 3, 1, 2, 5, 2]


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({"stuff": ["bench"]}, "'bench' is none: it is a value of slot surface, or part of one, so name that slot"),
        ({"stuff": ["Surfaces"]}, "'Surfaces' is none: did you mean 'surface'"),
        ({"stuff": ["{surface}"]}, "write surface, without braces"),
        ({"things": ["concept", "toothed wheel"]}, "it is a word for a concept, so name the slot concept"),
        ({"things": ["concept", "eel"]}, "'eel' is none: no template holds it"),
        ({"stuff": ["other"]}, "slot other is stuff and holds 'cog', which is a concept, so a thing"),
        ({"stuff": ["concept"]}, "stuff holds concept, which is a thing"),
        ({"things": ["concept", "steel table"]}, r"prompts.attributes: \{thing: \[steel table\]\} and \{thing\}"),
        ({"things": ["concept", "ladder"]}, "'ladder' is none: no template holds it, so no image could show it"),
        ({"things": ["concept", "idle"]}, "slots are: concept, other, surface"),
        ({"things": ["surface"]}, "things lacks concept"),
        ({"things": ["concept", "surface"], "stuff": ["surface"]}, "slot 'surface' is named twice"),
    ],
)
def test_a_word_that_no_image_could_show_is_refused(annotation: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(annotation)


@pytest.mark.parametrize(
    ("value", "said"),
    [("Background", "name of a mask's value 0"), (" background ", "name of a mask's"), ("gear", "is a concept")],
)
def test_a_value_that_cannot_name_a_category_is_refused(value: str, said: str) -> None:
    prompts = {"templates": ["a {concept} on a {surface}"], "attributes": {"surface": [value]}}
    with pytest.raises(RecipeError, match=said):
        recipe({"stuff": ["surface"]}, prompts=prompts)
    assert recipe({}, prompts=prompts)


def test_values_are_kept_with_single_spaces() -> None:
    prompts = {"templates": ["a {concept} on a {surface}"], "attributes": {"surface": [" a\nbench  top "]}}
    assert recipe({"stuff": ["surface"]}, prompts=prompts).categories[-1].name == "a bench top"


def test_templates_that_no_concept_uses_hold_no_slot() -> None:
    concepts = [{"name": "gear", "requested": 1, "templates": ["a {concept} and a {other}"]}]
    assert len(recipe({"things": ["concept", "other"]}, concepts=concepts).categories) == 4
    with pytest.raises(RecipeError, match="slots are: concept, other"):
        recipe({"stuff": ["surface"]}, concepts=concepts)


def test_more_categories_than_a_mask_holds_are_refused() -> None:
    prompts = {"templates": ["a {concept} on a {surface}"], "attributes": {"surface": [f"s{n}" for n in range(253)]}}
    with pytest.raises(RecipeError, match=r"255 categories; an indexed mask holds 254 at most"):
        recipe({"stuff": ["surface"]}, prompts=prompts)
    assert len(recipe({}, prompts=prompts).categories) == 2
