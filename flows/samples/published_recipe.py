"""Parse the recipe of a version, to make its images again.

A version may come from anywhere, so it never chooses code to run. Its recipe may name a torch module of its author
(`generator.module`). That module is imported only if the user names the same code on the command line.
"""

from collections.abc import Mapping
from typing import Any

from tailforge.schemas.dataset import Dataset
from tailforge.schemas.errors import ModelError
from tailforge.schemas.recipe import Recipe, read_stored_recipe
from tailforge.tasks.models.classifier_files import CIFAR_RESNET

OWN_CODE = (CIFAR_RESNET,)  # Tailforge's own code, which a version may name


def parse_published(dataset: Dataset, teacher_module: str | None = None) -> Recipe:
    """Return the recipe of dataset.json; `teacher_module` is the import path that the user named.

    Errors: RecipeError for an invalid recipe; ModelError for code that the user did not name.
    """
    origin = f"{dataset.name}@{dataset.version}"
    refuse_code(dataset.recipe["generator"] or {}, origin, teacher_module)
    return read_stored_recipe(dict(dataset.recipe), origin)


def refuse_code(source: Mapping[str, Any], origin: str, teacher_module: str | None) -> None:
    """Check the code that a version's generator names: none, Tailforge's own or `teacher_module`.

    `origin` names the version in errors. Errors: ModelError for other code.
    """
    module = source.get("module")
    if teacher_module is not None and module != teacher_module:
        raise ModelError(
            f"--teacher-module {teacher_module!r:.80}: the generator.module of {origin} is {module!r:.80}; name that, "
            "or leave the option out"
        )
    if module is not None and module not in (teacher_module, *OWN_CODE):
        raise ModelError(
            f"generator.module of {origin}: the version names {module!r:.80} for import, and a version never chooses "
            "code to run; if this code is yours, name it by --teacher-module"
        )
