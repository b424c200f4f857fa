"""The training recipe of a generator: what does not fit together is one clear error."""

from typing import Any

import pytest
from pydantic import ValidationError

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.training.embedded import parse_training_recipe
from tailforge.schemas.training.generator import GeneratorTraining


def recipe(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "kind": "generator",
        "name": "made",
        "base": "catalog:workshop",
        "images": {"folder": "photographs"},
        "learning": {"steps": 10},
    }
    return data | changes


def test_a_base_may_be_given_by_its_name() -> None:
    made = GeneratorTraining.model_validate(recipe())
    assert made.base.model == "catalog:workshop"
    assert made.structure.arm == "none"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {}}, "either dataset .* or folder"),
        ({"images": {"folder": "a", "dataset": "b", "store": "c"}}, "either dataset .* or folder"),
        ({"images": {"dataset": "b"}}, "store is missing"),
        ({"images": {"folder": "a", "where": [["clip_score", ">", 0.3]]}}, "a folder has none"),
        (
            {"learning": {"steps": 10, "batch": 10, "shared_noise": 4}},
            "shared_noise x learning.passes, 4",
        ),
        ({"learning": {"steps": 10, "batch": 24}, "structure": {"arm": "sadm"}}, "structure.group is 16"),
        ({"learning": {"steps": 10, "shared_noise": 8}, "structure": {"arm": "sadm"}}, "learning.shared_noise, 8"),
        ({"start": "scratch", "weights": "lora"}, "start: scratch trains every weight"),
        ({"start": "scratch", "structure": {"relative_to": "source"}}, "needs a trained source"),
        ({"name": "Not a name"}, "name"),
        ({"learning": {"steps": 10, "lr": 1}}, "lr"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GeneratorTraining.model_validate(recipe(**changes))


def test_mistakes_name_the_file_and_the_key() -> None:
    with pytest.raises(RecipeError, match=r"(?s)training recipe x.yaml.*learning.steps"):
        parse_training_recipe(recipe(learning={"steps": 0}), "training recipe x.yaml")
