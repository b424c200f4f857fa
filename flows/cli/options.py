"""The common parts of all commands: the application, options, tables and JSON."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

import tailforge as package
from tailforge.flows.cli.completion import complete_builds, complete_datasets, complete_recipes
from tailforge.flows.terminal.console import TextConsole
from tailforge.schemas.documents.shown import visible
from tailforge.schemas.options import FIT, MOST_WORKERS, ROOT, Fit

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
console = TextConsole()


def print_version(asked: bool) -> None:
    """Print the version of the installed distribution and end the command."""
    if asked:
        sys.stdout.write(f"tailforge {package.__version__}\n")
        raise typer.Exit


@app.callback()
def tailforge(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Build versioned synthetic image datasets from recipes."""


Store = Annotated[
    str,
    typer.Option(
        envvar="TAILFORGE_STORE",
        help="Folder or s3:// URI of the store; for reading also other addresses such as gs://bucket/folder.",
    ),
]
Set = Annotated[list[str], typer.Option("--set", help="Override of a recipe setting, key.path=value; may be repeated.")]
RecipeFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the version's recipe, where relative paths of its models and references start. By default "
        "the catalog for a recipe of the catalog, else the current folder."
    ),
]
FitOption = Annotated[Fit, typer.Option(help=FIT)]
ImagesRoot = Annotated[Path | None, typer.Option("--root", help=ROOT)]
MONEY = "in any currency; without prices no cost is shown."
AcceleratorPrice = Annotated[
    float | None,
    typer.Option(min=0, envvar="TAILFORGE_ACCELERATOR_PRICE", help=f"Price per hour of one accelerator, {MONEY}"),
]
MachinePrice = Annotated[
    float | None, typer.Option(min=0, envvar="TAILFORGE_MACHINE_PRICE", help="Price per hour of the machine.")
]
MaxCost = Annotated[
    float | None,
    typer.Option(min=0, help="Stop before a partition with which this run would cost more, at the given prices."),
]
MaxHours = Annotated[
    float | None, typer.Option(min=0, help="Stop before a partition with which this run would take more hours.")
]
MaxImages = Annotated[
    int | None, typer.Option(min=1, help="Stop before a partition with which this run would draw more images.")
]
TeacherModule = Annotated[
    str | None, typer.Option(help="package.module:callable, if the teacher is a torch module of your own.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RecipeOrDataset = Annotated[
    str,
    typer.Argument(
        help="Name in catalog/recipes, path of a YAML file, dataset (its last build) or dataset@version.",
        autocompletion=complete_builds,
    ),
]
RecipeName = Annotated[
    str,
    typer.Argument(help="Name in catalog/recipes, or path of a YAML file.", autocompletion=complete_recipes),
]
DatasetName = Annotated[
    str,
    typer.Argument(
        help="Dataset, dataset@version or recipe; the latest version by default.", autocompletion=complete_datasets
    ),
]
Runner = Annotated[
    Literal["threads", "processes", "ray"],
    typer.Option(help="threads of this process, processes (one per device of this machine), or ray for a cluster."),
]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=MOST_WORKERS,
        help="Most steps at a time. By default one thread per core, or one process per device.",
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(help="Devices for --runner processes, such as 0,1 or cpu:0; by default all free ones."),
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Begin further rounds even beyond quality.round_limit or the limits of this run.")
]
RayAddress = Annotated[
    str | None, typer.Option(envvar="RAY_ADDRESS", help="host:port of the cluster's head, for --runner ray.")
]
DEFAULT_STORE = "./store"


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table with its title."""
    drawn = Table(*map(visible, columns), title=visible(title), title_justify="left")
    for row in rows:
        drawn.add_row(*("" if cell is None else visible(str(cell)) for cell in row))
    console.print(drawn)


def plain(value: Any) -> str:
    """Return nested values as one line without braces and quotes."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    return "none" if value is None else str(value)


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")
