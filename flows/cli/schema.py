"""The commands `tailforge new` and `tailforge schema`, for the writing of recipes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tailforge.flows.cli.completion import complete_recipes
from tailforge.flows.cli.options import Json, console, print_json


def new(
    name: Annotated[str, typer.Argument(help="Name of the dataset: lower case letters, digits, - and _.")],
    template: Annotated[
        str, typer.Option("--from", help="Recipe of the catalog to copy.", autocompletion=complete_recipes)
    ] = "workshop",
    license_: Annotated[
        str | None,
        typer.Option("--license", help="Licence of the dataset, an SPDX identifier or a name; by default the copy's."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write, new or empty; NAME by default.")] = None,
    as_json: Json = False,
) -> None:
    """Copy a recipe of the catalog into a folder of its own, with a name and a licence, to change it there.

    Example: `tailforge new my-parts --from workshop --license CC-BY-4.0`
    """
    from tailforge.flows.photographs.new_recipe import new_recipe

    made = new_recipe(name, template, license_, out)
    if as_json:
        return print_json(made)
    for key in ("recipe", "next"):
        console.print(f"{key}: {made[key]}", soft_wrap=True, markup=False)


def schema(
    training: Annotated[bool, typer.Option("--training", help="Schema of training recipes.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write or replace; by default the schema is printed.")
    ] = None,
) -> None:
    """Write the JSON schema of recipes, by which editors complete and check them.

    Example: `tailforge schema --out recipe.schema.json`
    """
    from tailforge.catalog.store import storage_errors
    from tailforge.catalog.user_paths import usable_path
    from tailforge.schemas.recipe_schema import schema_text

    text = schema_text("training_recipe" if training else "recipe")
    if out is None:
        sys.stdout.write(text)
    else:
        file = usable_path(out, "--out")
        with storage_errors("write", str(file)):
            file.write_text(text, encoding="ascii")
        console.print(f"schema: {file}", soft_wrap=True, markup=False)
