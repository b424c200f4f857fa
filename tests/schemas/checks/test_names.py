"""Names that look alike are one name: kept composed, trimmed, with single spaces, and compared without upper case."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import parse_recipe, read_stored_recipe
from tailforge.schemas.settings.fields import look, tidy
from tests.schemas.checks.test_mistakes import GOOD

ALIKE = [
    ("gear", "Gear"),
    ("gear", "gear "),
    ("gear", " gear"),
    ("hex nut", "hex  nut"),
    ("hex nut", "hex\u00a0nut"),
    ("caf\u00e9", "cafe\u0301"),
    ("stra\u00dfe", "STRASSE"),
    ("gear", "ge\u200dar"),
]


def concepts(*names: str) -> dict[str, Any]:
    return GOOD | {"concepts": [{"name": name, "requested": 1} for name in names]}


@pytest.mark.parametrize("pair", ALIKE)
def test_concepts_that_look_alike_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"named twice|look alike"):
        parse_recipe(concepts(*pair), "it.yaml")


@pytest.mark.parametrize("pair", ALIKE)
@pytest.mark.parametrize("weights", [False, True])
def test_values_of_a_slot_that_look_alike_are_refused(pair: tuple[str, str], weights: bool) -> None:
    values: Any = dict.fromkeys(pair, 1.0) if weights else list(pair)
    with pytest.raises(RecipeError, match=r"prompts\.attributes: values of attribute part: .* look alike"):
        parse_recipe(GOOD | {"prompts": {"attributes": {"part": values}}}, "it.yaml")


def test_names_in_the_lexicon_that_look_alike_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"prompts\.lexicon: names in lexicon: 'gear' and 'Gear ' look alike"):
        parse_recipe(GOOD | {"prompts": {"lexicon": {"gear": ["cog"], "Gear ": ["wheel"]}}}, "it.yaml")


def test_names_are_kept_tidy() -> None:
    prompts = {
        "templates": ["a {concept} of {part}"],
        "attributes": {"part": {" brushed  steel ": 1.0}},
        "lexicon": {" cafe\u0301 ": [" coffee\thouse "]},
    }
    recipe = parse_recipe(concepts("  cafe\u0301  bar ") | {"prompts": prompts}, "it.yaml")
    assert recipe.concepts[0].name == "caf\u00e9 bar"
    assert recipe.prompts.attributes == {"part": {"brushed steel": 1.0}}
    assert recipe.prompts.lexicon == {"caf\u00e9": ("coffee house",)}


def test_a_stored_recipe_keeps_the_names_that_its_samples_have() -> None:
    stored = read_stored_recipe(concepts("hex  nut", "hex nut"), "it")
    assert [concept.name for concept in stored.concepts] == ["hex  nut", "hex nut"]
    assert [category.name for category in stored.categories] == ["hex  nut", "hex nut"]
    again = type(stored).model_validate_json(stored.model_dump_json())
    assert again == stored


@given(st.text())
def test_a_tidy_name_stays_as_it_is(name: str) -> None:
    assert tidy(tidy(name)) == tidy(name)
    assert look(tidy(name)) == look(name) == look(look(name))
