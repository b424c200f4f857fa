"""Command `tailforge evaluate`. flows/cli/commands.py registers it and says what a command may do."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from tailforge.flows.cli.options import (
    DEFAULT_STORE,
    Json,
    RecipeFolder,
    Store,
    console,
    print_json,
    table,
)
from tailforge.flows.cli.publication import warn
from tailforge.flows.cli.train import FitOption
from tailforge.flows.terminal.stopping import run_stoppable
from tailforge.schemas.documents.shown import count_of, visible
from tailforge.schemas.errors import RecipeError

SHOWN_LEAKS = 5
SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def evaluate(
    dataset: Annotated[str, typer.Argument(help="Version to evaluate: dataset or dataset@version.")],
    real: Annotated[
        str,
        typer.Option(
            help="Labelled real images with splits train, validation and test: a folder, a CSV or Parquet file, a COCO "
            "file, tars, or dataset@version."
        ),
    ],
    root: Annotated[
        Path | None, typer.Option(help="Folder that paths in a table of real images start from; by default its own.")
    ] = None,
    store: Store = DEFAULT_STORE,
    against: Annotated[
        list[str], typer.Option(help="Rival version, dataset or dataset@version; may be repeated.")
    ] = [],  # noqa: B006
    class_: Annotated[
        list[str],
        typer.Option("--class", help="Class of the version and its name in the real images, A=B; may be repeated."),
    ] = [],  # noqa: B006
    task: Annotated[str, typer.Option(help="Task of the model: classification.")] = "classification",
    model: Annotated[
        str,
        typer.Option(
            help="Preset residual-small (16 to 64 pixels per side), or a model of transformers: a folder, or "
            "owner/name@commit."
        ),
    ] = "",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Begin with random weights, and not with those of --model.")
    ] = False,
    size: Annotated[
        str | None, typer.Option(help="Size of all images, HEIGHTxWIDTH; by default that of the training images.")
    ] = None,
    fit: FitOption = "exact",
    steps: Annotated[int, typer.Option(help="Training steps of every arm.")] = 400,
    batch: Annotated[int | None, typer.Option(help="Images per step; by default the model's own.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate of the cosine schedule; by default the model's own.")
    ] = None,
    checks: Annotated[int, typer.Option(help="Steps at which validation measures a model.")] = 5,
    seeds: Annotated[int, typer.Option(help="Paired seeds per arm.")] = 5,
    first_seed: Annotated[int, typer.Option(help="The first seed; the others follow it.")] = 0,
    shares: Annotated[
        str, typer.Option(help="Shares of synthetic images within the draws of rare classes; validation chooses one.")
    ] = "0.25,0.5,0.75",
    augmentations: Annotated[int, typer.Option(help="Augmentations that a random search tries.")] = 4,
    few: Annotated[int, typer.Option(help="Most real training images of a rare class.")] = 20,
    many: Annotated[int, typer.Option(help="A class with more real training images is frequent.")] = 100,
    leaked: Annotated[
        str, typer.Option(help="What to do with test images that a model has seen: drop or refuse.")
    ] = "drop",
    folder: RecipeFolder = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Trainings at a time; one per core by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what a version is worth to a model of real images: train with and without it, and compare recall.

    Example: `tailforge evaluate workshop --real inspection/`
    """
    from tailforge.flows.training.evaluate_version import evaluate_version
    from tailforge.flows.training.evaluation_inputs import Request, parse_settings

    settings = parse_settings(
        {
            "task": task, "model": model, "from_scratch": from_scratch, "steps": steps, "batch": batch,
            "learning_rate": learning_rate, "checks": checks, "seeds": seeds, "first_seed": first_seed,
            "shares": parse_shares(shares), "augmentations": augmentations, "few": few, "many": many, "leaked": leaked,
        }
    )  # fmt: skip
    asked = Request(
        dataset, store, real, settings, tuple(against), parse_pairs(class_), parse_size(size), fit, folder, root
    )
    made = run_stoppable(evaluate_version, asked, workers)
    print_json(made) if as_json else print_evaluation(made)


def parse_shares(text: str) -> list[float]:
    """Return the numbers of a list such as 0.25,0.5. Errors: RecipeError."""
    try:
        return [float(each) for each in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"--shares {text!r:.80}: {error}; give numbers such as 0.25,0.5,0.75") from error


def parse_pairs(pairs: list[str]) -> dict[str, str]:
    """Return the real class by the version's class. Errors: RecipeError."""
    found = {}
    for pair in pairs:
        own, equals, real = pair.partition("=")
        if not (own and equals and real):
            raise RecipeError(f"--class {pair!r:.80}: give the version's class and the real one as A=B")
        found[own] = real
    return found


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return height and width of a text such as 24x40. Errors: RecipeError."""
    if text is None:
        return None
    found = SIZE.fullmatch(text)
    if found is None:
        raise RecipeError(f"--size {text!r:.80}: give height and width in pixels, such as 40x24")
    return int(found[1]), int(found[2])


def print_evaluation(made: dict[str, Any]) -> None:
    """Print an evaluation for a person."""
    for leak in made["leaks"][:SHOWN_LEAKS]:
        warn("left out", f"test image {leak['image']}: {leak['how']} of the {leak['kind']} {leak['of']}")
    if len(made["leaks"]) > SHOWN_LEAKS:
        console.print(f"... and {count_of(len(made['leaks']) - SHOWN_LEAKS, 'more test image')}; the record lists all")
    for each in made["references_by_digest_only"]:
        warn("references", f"{each}: the photographs were not found, only equal files are recognised; give --folder")

    rows = [
        [each["arm"], each["setting"], show(each["tail"]), show(each["macro"]), show(each["calibration_error"])]
        for each in made["arms"]
    ]
    table(
        f"{made['score']} on test, mean over seeds",
        ["arm", "setting", "rare classes", "all classes", "calibration"],
        rows,
    )
    console.print(f"verdict: {visible(made['verdict'])}", soft_wrap=True)
    console.print(f"record: {made['files']['record']}", soft_wrap=True)
    console.print(f"page: {made['files']['page']}", soft_wrap=True)


def show(figure: dict[str, Any]) -> str:
    """Return a figure in per cent; empty without one."""
    return "" if figure["value"] is None else f"{100 * figure['value']:.1f} %"
