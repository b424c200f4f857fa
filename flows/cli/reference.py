"""Write the reference pages in docs from the code, so that they always agree with it: `make docs`."""

import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tailforge.flows.cli.commands import app
from tailforge.flows.cli.reference_library import api_page, tables_page
from tailforge.schemas.checks.mistakes import keys_of
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.recipe_schema import schema_text
from tailforge.schemas.training.generator import GeneratorTraining

EXAMPLE = re.compile(r"Example: `(tailforge [^`]+)`")
DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


def nested_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a field's type mentions, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from nested_models(argument)


def describe_type(annotation: Any) -> str:
    """Return a type in the words of YAML."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if annotation is type(None):
        return "null"

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(argument) for argument in arguments)

    name = getattr(origin, "__name__", "")
    if name == "Literal":
        return ", ".join(f"`{argument}`" for argument in arguments)
    if name == "tuple":
        inner = [describe_type(argument) for argument in arguments if argument is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in arguments else f"[{', '.join(inner)}]"
    if name in ("Mapping", "dict"):
        return f"mapping of {describe_type(arguments[0])} to {describe_type(arguments[1])}"
    if name == "Annotated" or hasattr(annotation, "__metadata__"):
        return describe_type(arguments[0])

    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", str(annotation)), str(annotation)
    )


def describe_field(name: str, field: FieldInfo) -> str:
    """Return one table row for a field."""
    if field.is_required():
        default = "required"
    elif isinstance(value := field.get_default(call_default_factory=True), BaseModel):
        default = "its own defaults"
    else:
        default = f"`{list(value) if isinstance(value, tuple) else value}`".replace("|", "\\|")
    return f"| `{name}` | {describe_type(field.annotation)} | {default} | {field.description or ''} |"


def model_page(whole: type[BaseModel], title: str, origin: str) -> str:
    """Return a page with one table per model that `whole` mentions."""
    models: list[type[BaseModel]] = []
    waiting: list[type[BaseModel]] = [whole]
    while waiting:
        model = waiting.pop(0)
        if model not in models:
            models.append(model)
            waiting += [inner for field in model.model_fields.values() for inner in nested_models(field.annotation)]

    lines = [f"# {title}", "", f"Written by `make docs` from {origin}. Unknown keys are refused.", ""]
    for model in models:
        lines += [f"## {model.__name__}", "", inspect.cleandoc(model.__doc__ or ""), ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        lines += [describe_field(key, field) for key, field in keys_of(model).items()] + [""]
    return "\n".join(lines)


def recipe_page() -> str:
    """Return the page docs/reference/recipe.md."""
    return model_page(Recipe, "The recipe", "schemas/recipe.py")


def training_page() -> str:
    """Return the page docs/reference/training_recipe.md."""
    return model_page(GeneratorTraining, "The training recipe of a generator", "schemas/training/generator.py")


def cli_page() -> str:
    """Return the page docs/reference/cli.md."""
    lines = [
        "# The command",
        "",
        "Written by `make docs` from flows/cli/commands.py. Exit codes: 0 done, 2 your error, 1 a failure, 3 stopped",
        "at a limit of the command, 130 or 143 stopped by Ctrl-C or SIGTERM. The store is `--store` or",
        "`TAILFORGE_STORE`, by default `./store`: a folder, or a bucket as `s3://bucket/forge`.",
    ]

    group: Any = typer.main.get_command(app)
    lines += ["", "| command | example |", "|---|---|"]
    for name, command in group.commands.items():
        example = EXAMPLE.search(command.help or "")
        lines.append(f"| [{name}](#tailforge-{name}) | {f'`{example[1]}`' if example else ''} |".replace(" | |", " |"))
    for name, command in group.commands.items():
        lines += ["", f"## tailforge {name}", "", (command.help or "").strip(), "", "| option | meaning |", "|---|---|"]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            options = ", ".join(f"`{o}`" for o in parameter.opts) if parameter.param_type_name == "option" else ""
            lines.append(f"| {options or f'`{parameter.name.upper()}`'} | {parameter.help or ''} |")
    return "\n".join([*lines, ""])


PAGES = {
    "recipe.md": recipe_page,
    "training_recipe.md": training_page,
    "recipe.schema.json": schema_text,
    "training_recipe.schema.json": lambda: schema_text("training_recipe"),
    "cli.md": cli_page,
    "tables.md": tables_page,
    "api.md": api_page,
}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (DOCS / page).write_text(write())
