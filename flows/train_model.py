"""`tailforge train`: what a training recipe trains follows from the recipe."""

from pathlib import Path
from typing import Any

from catalog.model_files import MODELS
from catalog.recipe_files import RECIPES
from flows.training_progress import show_training
from schemas.classifiers import TeacherRecipe
from schemas.errors import RecipeError
from schemas.training import load_training_recipe


def train_model(reference: str, work: Path, models: Path | None, images: Path | None) -> dict[str, Any]:
    """Train by the recipe `reference` (a file, or a name in catalog/recipes); return the model's folder and figures.

    `work`: a local folder for checkpoints; finished work in it is not done again. `models`: where the model's folder
    goes, by default catalog/models. `images`: labelled images of a teacher, in place of the recipe's.
    Errors: RecipeError, ImagesError, TrainingError.
    """
    named = RECIPES / f"{reference}.yaml"
    path = named if named.exists() else Path(reference)
    recipe = load_training_recipe(path)
    if isinstance(recipe, TeacherRecipe):
        from tasks.train_teacher import open_pictures, train_teacher

        pictures = open_pictures(recipe, path.parent, work, images)
        with show_training(f"train {recipe.name}", recipe.training.steps) as watch:
            return train_teacher(recipe, pictures, work, models or MODELS, watch)
    if images is not None:
        raise RecipeError(f"--images: {reference} trains a generator, which learns from renders alone; leave it out")
    from flows.train_generator import train_generator

    return train_generator(str(path), str(work), str(models) if models else None)
