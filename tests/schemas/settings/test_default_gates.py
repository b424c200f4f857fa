"""A recipe that names no gates has some that refuse what is no picture; `gates: none` has none."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.settings.gates import DEFAULT_GATES
from tailforge.tasks.methods.quality.gates import first_failed_gate
from tailforge.tasks.methods.quality.judge_images import CHEAP_GATES
from tailforge.tasks.methods.quality.pixel_scores import score_image
from tailforge.tasks.methods.workshop import BALANCED, render, sample_scene


def recipe(**changes: Any) -> Recipe:
    data: dict[str, Any] = {"name": "x", "description": "x", "seed": 1, "generator": {"model": "m"}}
    return parse_recipe(data | {"concepts": [{"name": "gear", "requested": 1}]} | changes, "test")


@pytest.mark.parametrize("changes", [{}, {"quality": {}}, {"quality": {"oversample": 2}}])
def test_a_recipe_that_names_no_gates_has_the_default_ones(changes: dict[str, Any]) -> None:
    assert recipe(**changes).quality.gates == DEFAULT_GATES


@pytest.mark.parametrize("gates", ["none", None, {}])
def test_none_switches_them_off(gates: Any) -> None:
    assert recipe(quality={"gates": gates}).quality.gates == {}


def test_named_gates_are_all_there_are_and_a_stored_recipe_keeps_its_meaning() -> None:
    named = recipe(quality={"gates": {"sharpness": {"min": 1}}})
    assert set(named.quality.gates) == {"sharpness"}
    for each in (named, recipe(), recipe(quality={"gates": "none"})):
        assert parse_recipe(each.model_dump(mode="json"), "stored").quality.gates == each.quality.gates


def fails(image: np.ndarray[Any, Any]) -> str | None:
    scores = score_image(image)
    return first_failed_gate(DEFAULT_GATES, CHEAP_GATES, {name: getattr(scores, name) for name in CHEAP_GATES})


def test_pictures_pass_and_what_is_none_does_not() -> None:
    scenes = [render(sample_scene(index, 7, BALANCED)).image for index in range(20)]
    assert [fails(scene) for scene in scenes] == [None] * 20
    rng = np.random.default_rng(0)
    mush = Image.fromarray(scenes[0]).filter(ImageFilter.GaussianBlur(6))
    assert fails(np.asarray(mush)) == "sharpness_low"
    assert fails(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) == "sharpness_high"
    assert fails(np.full((64, 64, 3), 120, np.uint8)) == "contrast_low"
    assert fails(np.zeros((64, 64, 3), np.uint8)) == "brightness_low"
