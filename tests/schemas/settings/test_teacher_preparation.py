"""Mean and deviation of a teacher's input are of pixels in 0..1."""

from typing import Any

import pytest
from pydantic import ValidationError

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import parse_recipe
from tailforge.schemas.settings.inversion import TeacherSource


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (None, None),
        ([0.5], [0.5]),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ([0.1307], [0.3081]),
        ([0, 0, 0], [1, 1, 1]),
        ([0.41, 0.46, 0.48], [1 / 255] * 3),  # a network that reads 0..255 less a mean
        ([-1.0], [2.0]),
        ([2.0], [1e-6]),
    ],
)
def test_usual_preparations_pass(mean: list[float] | None, std: list[float] | None) -> None:
    source = TeacherSource.model_validate({"model": "m", "mean": mean, "std": std})
    assert source.mean == (None if mean is None else tuple(mean))
    assert TeacherSource.model_validate(source.model_dump()) == source


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"mean": [123.675, 116.28, 103.53]}, "123.675"),
        ({"mean": [0.4, 116.28, 0.4]}, "116.28"),
        ({"mean": [-103.5]}, "-103.5"),
        ({"mean": [33.3]}, "33.3"),
        ({"std": [58.395, 57.12, 57.375]}, "58.395"),
        ({"std": [2.1]}, "2.1"),
    ],
)
def test_numbers_of_pixels_in_0_to_255_are_refused(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(ValidationError, match=f"pixels are in 0..1, so {found} cannot be right; divide by 255"):
        TeacherSource.model_validate({"model": "m"} | changes)


@pytest.mark.parametrize("place", ["generator", "quality.verifier"])
@pytest.mark.parametrize("name", ["mean", "std"])
def test_the_recipe_names_the_key(place: str, name: str) -> None:
    classifier = {"model": "m", "module": "net:build", name: [100.0]}
    section = {"generator": classifier} if place == "generator" else {
        "generator": {"model": "m"}, "quality": {"verifier": classifier},
    }  # fmt: skip
    data = {
        "name": "small", "description": "A test.", "seed": 1, "concepts": [{"name": "gear", "requested": 3}],
        "engine": "natural_inversion", **section,
    }  # fmt: skip
    with pytest.raises(RecipeError, match=rf": {place}\.{name}: pixels are in 0..1, so 100 cannot"):
        parse_recipe(data, "test")
