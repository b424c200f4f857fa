"""The recipe that a version was made from, parsed to make its images again.

A version may come from anywhere, so it never chooses code to run. Its recipe may name a torch module of its maker
(`generator.module`); that is imported only when the user names the same code on the command line.
"""

from collections.abc import Mapping
from typing import Any

from tailforge.schemas.dataset import Dataset
from tailforge.schemas.errors import ModelError
from tailforge.schemas.recipe import Recipe, read_stored_recipe
from tailforge.tasks.models.classifier_files import CIFAR_RESNET

OWN_CODE = (CIFAR_RESNET,)  # of this project, so a version may ask for it


def parse_published(dataset: Dataset, teacher_module: str | None = None) -> Recipe:
    """The recipe in dataset.json; `teacher_module` is the import path that the user named.

    Errors: RecipeError for one that cannot be parsed; ModelError for code that the user did not name.
    """
    origin = f"{dataset.name}@{dataset.version}"
    refuse_code(dataset.recipe["generator"], origin, teacher_module)
    return read_stored_recipe(dict(dataset.recipe), origin)


def refuse_code(source: Mapping[str, Any], origin: str, teacher_module: str | None) -> None:
    """Errors: ModelError unless the code that a version's generator names is none, this project's or `teacher_module`.

    `origin`: the version, as errors name it.
    """
    module = source.get("module")
    if teacher_module is not None and module != teacher_module:
        raise ModelError(
            f"--teacher-module {teacher_module!r:.80}: the generator.module of {origin} is {module!r:.80}; name that, "
            "or leave the option out"
        )
    if module is not None and module not in (teacher_module, *OWN_CODE):
        raise ModelError(
            f"generator.module of {origin}: the version asks to import {module!r:.80} and to call it, and a version "
            "never chooses code to run; if it is code of yours, name it by --teacher-module"
        )
