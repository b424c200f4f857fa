"""Options of `tailforge evaluate`, and how their texts are read."""

import re
from typing import Annotated

import typer

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.options import FIT, Fit

SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")

Dataset = Annotated[str, typer.Argument(help="Version to evaluate: dataset or dataset@version.")]
Real = Annotated[
    str,
    typer.Option(
        help="Labelled real images with splits train, validation and test: a folder, a CSV or Parquet file, a COCO "
        "file, tars, or dataset@version."
    ),
]
Against = Annotated[list[str], typer.Option(help="Rival version, dataset or dataset@version; may be repeated.")]
Pairs = Annotated[
    list[str],
    typer.Option("--class", help="Class of the version and its name in the real images, A=B; may be repeated."),
]
Task = Annotated[str, typer.Option(help="Task of the model: classification, or segmentation of images with masks.")]
MaskClasses = Annotated[
    str, typer.Option(help="segmentation: names of the values of real masks, value 1 first, with commas between them.")
]
Unmasked = Annotated[
    str,
    typer.Option(help="segmentation: what pixels of a version are that no category masks: background or ignored."),
]
Model = Annotated[
    str,
    typer.Option(
        help="Preset (residual-small, 16 to 64 pixels per side; for segmentation pyramid-small, 16 to 256), or a model "
        "of transformers: a folder, or owner/name@commit."
    ),
]
FromScratch = Annotated[
    bool, typer.Option("--from-scratch", help="Begin with random weights, and not with those of --model.")
]
Size = Annotated[
    str | None,
    typer.Option(
        help="Size of all images, HEIGHTxWIDTH; by default that of the training images, or of the version's, if the "
        "model reads it, else a smaller one."
    ),
]
EvaluatedFit = Annotated[
    Fit | None, typer.Option("--fit", help=f"{FIT} By default chosen by the sizes of all images; the answer says it.")
]
Steps = Annotated[int, typer.Option(help="Training steps of every arm.")]
Batch = Annotated[int | None, typer.Option(help="Images per step; by default the model's own.")]
LearningRate = Annotated[
    float | None, typer.Option(help="Highest learning rate of the cosine schedule; by default the model's own.")
]
Checks = Annotated[int, typer.Option(help="Steps at which validation measures a model.")]
Seeds = Annotated[int, typer.Option(help="Paired seeds per arm.")]
FirstSeed = Annotated[int, typer.Option(help="The first seed; the others follow it.")]
Shares = Annotated[
    str, typer.Option(help="Shares of synthetic images within the draws of rare classes; validation chooses one.")
]
Augmentations = Annotated[
    int, typer.Option(help="Random augmentations that a search compares with the default one, for all arms.")
]
Few = Annotated[int, typer.Option(help="Most real training images of a rare class.")]
Many = Annotated[int, typer.Option(help="A class with more real training images is frequent.")]
LearningCurve = Annotated[
    bool, typer.Option("--learning-curve", help="Measure how many real images of rare classes have the same gain.")
]
HeldBack = Annotated[
    str | None,
    typer.Option(
        help="Further labelled real images of rare classes for the learning curve, read as --real; of splits, train. "
        "By default the curve has fewer images than --real."
    ),
]
Leaked = Annotated[str, typer.Option(help="What to do with test images that a model has seen: drop or refuse.")]
Workers = Annotated[int | None, typer.Option(min=1, max=256, help="Trainings at a time; one per core by default.")]


def parse_shares(text: str) -> list[float]:
    """Return the numbers of a list such as 0.25,0.5. Errors: RecipeError."""
    try:
        return [float(each) for each in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"--shares {text!r:.80}: {error}; give numbers such as 0.25,0.5,0.75") from error


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names of a list such as "dark area, crack". Errors: RecipeError for an empty or a repeated name."""
    names = tuple(each.strip() for each in text.split(",")) if text else ()
    if "" in names or len(set(names)) < len(names):
        raise RecipeError(f"--mask-classes {text!r:.80}: give different names with commas between them, value 1 first")
    return names


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
