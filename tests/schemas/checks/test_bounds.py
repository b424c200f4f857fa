"""Every number and text that a person may write has bounds: none is beyond what a machine can do or a screen show."""

import annotated_types
import pytest

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import parse_recipe
from tests.schemas.checks.test_mistakes import GOOD
from tests.support.model_fields import LOWER, UPPER, bounds, list_leaves

LEAVES = list(list_leaves())


def test_the_models_are_walked() -> None:
    places = {place for place, _, _ in LEAVES}
    assert {"Concept.wanted", "Prompts.attributes[value][value]", "TeacherSource.size[]", "Gate.min"} <= places


@pytest.mark.parametrize("side", [LOWER, UPPER], ids=["lower", "upper"])
def test_every_number_is_bounded(side: tuple[str, ...]) -> None:
    unbounded = [place for place, kind, constraints in LEAVES if kind in (int, float) and not bounds(constraints, side)]
    assert unbounded == []


def test_every_text_has_a_longest_length() -> None:
    unbounded = [
        place
        for place, kind, constraints in LEAVES
        if kind is str
        and not any(isinstance(each, annotated_types.MaxLen) for each in constraints)
        and not bounds(constraints, ("max_length",))
    ]
    assert unbounded == []


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        ([{"name": "gear", "requested": 10**12}], "concepts.0.requested: must be 1000000 or less; found 1000000000000"),
        ([{"name": f"c {n}", "requested": 10**6} for n in range(11)], "11,000,000 images requested in all"),
    ],
)
def test_nobody_wants_more_images_than_can_be_planned(concepts: list[dict[str, object]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(GOOD | {"concepts": concepts}, "it.yaml")


@pytest.mark.parametrize("weight", [1e308, 0, -1, "1e400", 10**30])
def test_weights_are_numbers_that_can_be_added(weight: object) -> None:
    attributes = {"place": {"shelf": weight, "wall": weight}}
    with pytest.raises(RecipeError, match=r"prompts\.attributes\.place\.shelf: must be"):
        parse_recipe(GOOD | {"prompts": {"attributes": attributes}}, "it.yaml")
