"""`tailforge init --generator` searches a generator that knows the rare classes by name, and adapts any other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tailforge.catalog.sources.recipes import load_recipe
from tailforge.flows.photographs.inspect import Question
from tailforge.flows.photographs.start import start_from_photographs
from tailforge.flows.photographs.wording import read_prompts
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.fields import ModelSource
from tailforge.tasks.methods.workshop import render, sample_scene
from tests.flows.conftest import Command

SHOWN = {"gear": 6, "hook": 3, "star knob": 3}  # renders per part
PROMPT, WORDS = "a photo of a {material} {concept}", ("material=steel, blue plastic",)


def write_renders(folder: Path, classes: Mapping[str, str]) -> Path:
    """Write renders in class folders. `classes`: part by class."""
    for name, part in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(SHOWN[part]):
            Image.fromarray(render(sample_scene(number, 5, {part: 1.0})).image).save(folder / name / f"{number}.png")
    return folder


def start(source: Path, out: Path, **settings: Any) -> tuple[dict[str, Any], Recipe]:
    made = start_from_photographs(
        Question(str(source), fill="largest", **settings), out, "catalog:workshop", read_prompts(PROMPT, WORDS)
    )
    return made, load_recipe(str(out / "recipe.yaml")).recipe


@pytest.fixture
def split_parts(tmp_path: Path) -> Path:
    """Return parts whose classes have their own names, with splits, so that all photographs of a class are learnt."""
    return write_renders(tmp_path / "parts" / "train", {part: part for part in SHOWN}).parent


def test_known_classes_are_searched_for(split_parts: Path, tmp_path: Path) -> None:
    made, recipe = start(split_parts, tmp_path / "out")
    clip = ModelSource(model="catalog:workshop", subfolder="clip")
    assert recipe.source.model == "catalog:workshop"
    assert recipe.adaptation is None
    assert (recipe.engine.kind, recipe.engine.encoder, recipe.quality.scorer) == ("best_of_n", clip, clip)
    assert {each.name for each in recipe.concepts if each.references} == {"hook", "star knob"}
    assert recipe.prompts.templates == (PROMPT,)
    assert recipe.prompts.attributes == {"material": ("steel", "blue plastic")}
    assert made["search"].endswith("of 6 references by their class's name")


def test_unknown_names_are_learnt(tmp_path: Path) -> None:
    classes = {"gear": "gear", "kitten": "hook", "star knob": "star knob"}
    made, recipe = start(write_renders(tmp_path / "parts" / "train", classes).parent, tmp_path / "out")
    assert made["search"] is None
    assert recipe.engine.kind == "plain"
    assert recipe.adaptation is not None


def test_two_references_are_too_few_for_a_search(split_parts: Path, tmp_path: Path) -> None:
    made, recipe = start(split_parts, tmp_path / "out", references=2)
    assert made["search"] is None
    assert recipe.adaptation is not None


@pytest.mark.parametrize(
    ("prompt", "words", "complaint"),
    [
        ("a photo of a {material} {concept}", (), "uses {material}"),
        ("a photo", (), "has no {concept} slot"),
        (PROMPT, ("material",), "write it as slot=word,word"),
        (PROMPT, ("material= ,",), "write it as slot=word,word"),
        (PROMPT, ("material=steel,steel",), "steel"),
        (None, WORDS, "has no such slot"),
    ],
)
def test_prompts_and_words_must_fit(prompt: str | None, words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_prompts(prompt, words)
    assert complaint in str(caught.value)


def test_a_prompt_needs_a_generator(command: Command, tmp_path: Path) -> None:
    code, _, error = command("init", tmp_path, "--prompt", "{concept} at night")
    assert code == 2
    assert "name a --generator" in error
