"""`tailforge new`: copy a recipe of the catalog into a folder of its own."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from tailforge.catalog.sources.recipes import RECIPES, load_recipe, recipe_names
from tailforge.catalog.user_paths import usable_path
from tailforge.flows.photographs.commented import write_value
from tailforge.flows.photographs.new_folder import RECIPE, require_new, write_recipe_file, write_whole_folder
from tailforge.schemas.documents.shown import show
from tailforge.schemas.errors import NotFoundError
from tailforge.schemas.settings.licences import OtherLicence, parse_licence

HEAD = re.compile(r"\A(#.*\n)+")  # the catalog's own remarks


def new_recipe(name: str, template: str, licence: str | None, out: Path | None) -> dict[str, Any]:
    """Write a folder with a copy of a recipe of the catalog; return the copy's path and the command that comes next.

    The copy has the dataset's `name`, the `licence` if one is given, and reference photographs beside it. `out`: the
    folder, new or empty; by default `name`. Errors: UserError for a name, template, licence or folder that cannot be.
    """
    if template not in recipe_names():
        raise NotFoundError(f"--from {show(template)}: the catalog has: {', '.join(recipe_names())}")
    values: dict[str, Any] = {"name": name} | ({} if licence is None else {"license": _read_licence(licence)})
    folder = usable_path(out or Path(name), "--out").absolute()
    load_recipe(template, [f"{key}={write_value(value)}" for key, value in values.items()])  # refuses what cannot be
    require_new(folder)

    with write_whole_folder(folder) as temporary:
        write_recipe_file(temporary, _copy(template, values))
        for concept in load_recipe(template).recipe.concepts:
            if concept.references is not None:
                shutil.copytree(RECIPES / concept.references, temporary / concept.references)
    return {"recipe": str(folder / RECIPE), "next": f"tailforge plan {shlex.quote(str((out or Path(name)) / RECIPE))}"}


def _read_licence(text: str) -> str | dict[str, Any]:
    """Return the value of a recipe's key `license`. Errors: RecipeError."""
    found = parse_licence(text)
    return found.model_dump(exclude_none=True) if isinstance(found, OtherLicence) else found


def _copy(template: str, values: dict[str, Any]) -> str:
    """Return the text of a recipe of the catalog with other values of keys that have a line of their own."""
    head = f"# A copy of the catalog's recipe {template}; docs/reference/recipe.md explains every key.\n"
    text = HEAD.sub(head, (RECIPES / f"{template}.yaml").read_text(encoding="utf-8"))
    for key, value in values.items():
        start, end = next(re.finditer(rf"^{key}: .*$", text, re.MULTILINE)).span()
        text = f"{text[:start]}{key}: {write_value(value)}{text[end:]}"
    return text
