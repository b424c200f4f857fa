"""A training recipe is read whole or refused with the field's name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tailforge.catalog.sources.recipes import RECIPES, load_training_recipe
from tailforge.schemas.errors import NotFoundError, RecipeError
from tailforge.schemas.training.classifiers import TeacherRecipe
from tailforge.schemas.training.generator import GeneratorTraining
from tests.support.tiny_training import tiny_recipe

LONE_GEAR = [{"steps": 1, "learning_rate": [0.1, 0.1], "part_weights": {"gear": 1.0}}]
SHORT_SUM = [{"steps": 1, "learning_rate": [0.1, 0.1], "part_weights": {"gear": 0.1}}]


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_tiny_recipe_is_read(tmp_path: Path) -> None:
    recipe = load_training_recipe(write(tmp_path, tiny_recipe()))
    assert recipe.name == "tiny"
    assert type(recipe).model_validate(recipe.model_dump(mode="json")) == recipe


def test_shipped_recipe_is_read() -> None:
    path = RECIPES / "train-workshop.yaml"
    assert load_training_recipe(path).name == "workshop"


def test_shipped_adaptation_is_read() -> None:
    recipe = load_training_recipe(RECIPES / "adapt-workshop.yaml")
    assert isinstance(recipe, GeneratorTraining)
    assert recipe.base.model == "catalog:workshop"


@pytest.mark.parametrize("name", ["workshop", "mnist", "cifar10"])
def test_shipped_teacher_recipes_are_read(name: str) -> None:
    recipe = load_training_recipe(RECIPES / f"teacher-{name}.yaml")
    assert isinstance(recipe, TeacherRecipe)
    assert recipe.name == f"{name}-teacher"
    assert TeacherRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "colour"),
        ({"seed": -1}, "seed"),
        ({"name": "../workshop"}, "name"),
        ({"size_px": 33}, "size_px"),
        ({"autoencoder__crop_px": 64}, "autoencoder.crop_px is 64; at most size_px, 32"),
        ({"autoencoder__learning_rate": 0}, "autoencoder.learning_rate"),
        ({"autoencoder__channels": [10, 16, 16]}, "autoencoder.channels.0"),
        ({"clip__patch_px": 7}, "clip.patch_px is 7; it must divide size_px, 32"),
        ({"clip__tokens": 500}, "clip.tokens"),
        ({"diffusion__phases": []}, "diffusion.phases"),
        ({"diffusion__phases": LONE_GEAR}, r"diffusion.phases.0.part_weights.gear is 1.0, which is 30 images"),
        ({"diffusion__phases": SHORT_SUM}, "part_weights sum to 0.100; they must sum to 1"),
        ({"diffusion__prompt_dropout": 2}, "diffusion.prompt_dropout"),
        ({"judges__batch": 0}, "judges.batch"),
        ({"evaluation__guidance": -1}, "evaluation.guidance"),
        ({"kind": []}, "kind: must be teacher or generator, or left out .*; found a list of 0"),
        ({"kind": "generators"}, "kind: must be teacher or generator, or left out .*; found 'generators'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_training_recipe(write(tmp_path, tiny_recipe(**change)))


def test_aliases_beyond_all_pictures_are_refused(tmp_path: Path) -> None:
    content = tiny_recipe()
    content["diffusion"]["phases"][0]["caption_aliases"] = {"gear": {"hook": 0.7, "bolt": 0.7}}
    with pytest.raises(RecipeError, match=r"caption_aliases.gear sums to 1.4; at most 1"):
        load_training_recipe(write(tmp_path, content))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere.yaml.* is neither a file nor in the catalog"):
        load_training_recipe(tmp_path / "nowhere.yaml")


def test_text_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("name: [")
    with pytest.raises(RecipeError, match="not readable as YAML"):
        load_training_recipe(path)
