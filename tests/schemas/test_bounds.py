"""Every number and text that a person may write has bounds: none is beyond what a machine can do or a screen show."""

import annotated_types
import pytest

from tests.model_fields import LOWER, UPPER, bounds, list_leaves

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
