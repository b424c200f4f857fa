"""`tailforge train`: train the kind of model that a training recipe describes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailforge.catalog.sources.models import MODELS
from tailforge.catalog.sources.recipes import find_training_recipe, load_training_recipe
from tailforge.catalog.user_paths import usable_path
from tailforge.flows.terminal.training_progress import say_left_out, show_training
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.training.classifiers import TeacherRecipe
from tailforge.schemas.training.generator import GeneratorTraining


def train_model(
    reference: str,
    work: Path,
    models: Path | None,
    images: Path | None,
    overrides: Sequence[str] = (),
    devices: int = 1,
    root: Path | None = None,
) -> dict[str, Any]:
    """Train from the recipe `reference` (a file or a name in catalog/recipes); return the model's folder and figures.

    `work`: a local folder for checkpoints; finished work in it is not repeated. `models`: parent of the model's folder,
    by default catalog/models. `images`: in place of the recipe's, labelled images for a classifier or captioned images
    for a generator; `root`: folder that paths in a table of them start from. `overrides`: recipe settings as key=value.
    `devices`: processes that train a generator together.
    Errors: UserError of every kind, TrainingError.
    """
    path = find_training_recipe(reference)
    work = usable_path(work, "--work")
    models = None if models is None else usable_path(models, "--models")
    images = None if images is None else usable_path(images, "--images")
    recipe = load_training_recipe(reference, overrides, images, root)
    if devices > 1 and not isinstance(recipe, GeneratorTraining):
        raise RecipeError(
            f"--devices {devices}: several devices cannot train the model of {reference}; leave the option out"
        )
    if isinstance(recipe, TeacherRecipe):
        from tailforge.tasks.methods.packing.transforms import load_transforms
        from tailforge.tasks.training.teacher import open_pictures, train_teacher

        load_transforms("the training of a classifier")
        pictures = open_pictures(recipe, path.parent, work, images)
        say_left_out(pictures.origin, pictures.left_out)
        with show_training(f"train {recipe.name}", recipe.training.steps) as watch:
            return train_teacher(recipe, pictures, work, models or MODELS, watch)
    where = str(models) if models else None
    if isinstance(recipe, GeneratorTraining):
        from tailforge.flows.server.temporary import open_server
        from tailforge.flows.training.train_generator import train_generator

        with open_server():
            return train_generator(recipe, str(path.parent), str(work), where, devices)
    for option, given in (("--images", images), ("--root", root)):
        if given is not None:
            raise RecipeError(
                f"{option}: {reference} trains the embedded generator, which learns only from renders; leave it out"
            )
    from tailforge.flows.server.temporary import open_server
    from tailforge.flows.training.train_embedded import train_embedded

    with open_server():
        return train_embedded(recipe, str(work), where)
