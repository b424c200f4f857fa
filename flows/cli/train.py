"""Commands that train models. flows/cli/commands.py registers them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tailforge.flows.cli.options import (
    DEFAULT_STORE,
    FitOption,
    ImagesRoot,
    Json,
    RecipeFolder,
    Store,
    TeacherModule,
    console,
    plain,
    print_json,
    table,
)
from tailforge.flows.terminal.stopping import run_stoppable


def train(
    recipe: Annotated[str, typer.Argument(help="Training recipe: a name in catalog/recipes or a path.")],
    work: Annotated[
        Path, typer.Option(help="Folder for data, checkpoints and logs; a second run resumes from it.")
    ] = Path("work"),
    models: Annotated[
        Path | None, typer.Option(help="Parent of the model's folder; catalog/models by default.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Training images, in place of the recipe's: a folder, a table, a COCO file or tars "
            "(docs/how-to/images.md). A classifier needs labels and the splits train and test, a generator captions or "
            "labels."
        ),
    ] = None,
    root: ImagesRoot = None,
    set_: Annotated[
        list[str], typer.Option("--set", help="Override of a recipe setting, key.path=value; may be repeated.")
    ] = [],  # noqa: B006
    devices: Annotated[
        int, typer.Option(min=1, help="For a generator: processes that train together, each on its own accelerator.")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Train a generator or a classifier from a training recipe; a killed run resumes from its last checkpoint.

    Example: `tailforge train adapt-workshop --images photographs --set name=deer`
    """
    from tailforge.flows.training.train_model import train_model

    made = run_stoppable(train_model, recipe, work, models, images, set_, devices, root)
    if as_json:
        print_json(made)
    elif "validation" in made:
        print_generator(made)
    else:
        console.print(plain(made), soft_wrap=True)


def distill_(
    test: Annotated[
        str,
        typer.Option(
            help="Labelled test images: a folder with one subfolder per class, a table, a COCO file, tars "
            "(docs/how-to/images.md), or dataset@version."
        ),
    ],
    dataset: Annotated[
        str | None, typer.Argument(help="Training images: dataset or dataset@version; without it give --real.")
    ] = None,
    store: Store = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(help="Folder of the student; a second run resumes in it.")] = Path("student"),
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Teacher: catalog:NAME, folder or owner/name@commit; by default the teacher of the version's recipe."
        ),
    ] = None,
    teacher_module: TeacherModule = None,
    real: Annotated[
        str | None, typer.Option(help="Training images in place of a version, named as for --test, for comparison.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Use a random choice of so many images.")] = None,
    root: ImagesRoot = None,
    folder: RecipeFolder = None,
    fit: FitOption = "exact",
    student: Annotated[str, typer.Option(help="Network of the student: resnet-small or resnet18.")] = "resnet-small",
    steps: Annotated[int, typer.Option(help="Training steps.")] = 1000,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of the cosine schedule.")] = 0.1,
    temperature: Annotated[float, typer.Option(help="Temperature of the softmax of teacher and student.")] = 4.0,
    label_weight: Annotated[float, typer.Option(help="Weight of the cross entropy with the images' own labels.")] = 0.0,
    padding: Annotated[int, typer.Option(help="Reflected pixels around an image before a view is cropped.")] = 2,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mirror half of the views; unsuitable for digits and letters.")
    ] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Run forward passes in bfloat16.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and views.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a student on a version's images and their teacher's outputs, and test it on real labelled images.

    Example: `tailforge distill workshop_inversion --test photographs/`
    """
    from tailforge.flows.training.distill_student import distill_student, parse_teacher

    settings = {
        "student": student, "steps": steps, "batch": batch, "learning_rate": learning_rate, "temperature": temperature,
        "label_weight": label_weight, "padding": padding, "flip": flip, "bf16": bf16, "seed": seed,
    }  # fmt: skip

    named = None if teacher is None else parse_teacher(teacher, teacher_module)
    own = teacher_module if teacher is None else None
    made = run_stoppable(
        distill_student, dataset, store, test, out, settings, named, real, images, folder, own, fit, root
    )
    print_json(made) if as_json else print_student(made)


def pretrain(
    dataset: Annotated[
        str,
        typer.Argument(
            help="Images: dataset or dataset@version of the store; or a path with a / or a dot in it "
            "(docs/how-to/images.md)."
        ),
    ],
    use: Annotated[str, typer.Option(help="Training method: contrastive, masked or caption.")],
    masks: Annotated[
        str,
        typer.Option(
            help="Masks: attention (the images' own), none, box (random boxes of equal area, for comparison), or a "
            "folder of <id>.png with the same values."
        ),
    ] = "attention",
    store: Store = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(help="Folder of the encoder; a second run resumes in it.")] = Path("encoder"),
    split: Annotated[str, typer.Option(help="Split of the training images.")] = "train",
    images: Annotated[int | None, typer.Option(min=1, help="Use a random choice of so many images.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; the default depends on --use.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate of the cosine schedule.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order, views and random draws.")] = 0,
    set_: Annotated[
        list[str], typer.Option("--set", help="Other setting, key=value (docs/how-to/pretraining.md); may be repeated.")
    ] = [],  # noqa: B006
    probe: Annotated[
        str | None,
        typer.Option(
            help="Labelled images with splits train and test, to measure the features: a folder, a table, a COCO file, "
            "tars (docs/how-to/images.md), or dataset@version."
        ),
    ] = None,
    root: ImagesRoot = None,
    fit: FitOption = "exact",
    as_json: Json = False,
) -> None:
    """Pre-train an image encoder on a version's images, with or without its masks.

    Example: `tailforge pretrain workshop --use masked --masks attention --out encoder`
    """
    from tailforge.flows.training.pretrain_representation import pretrain_representation

    settings = {"steps": steps, "batch": batch, "learning_rate": learning_rate, "seed": seed}

    made = run_stoppable(
        pretrain_representation, dataset, store, use, masks, out, settings, set_, split, images, probe, fit, root
    )
    print_json(made) if as_json else print_encoder(made)


def print_encoder(made: dict[str, Any]) -> None:
    """Print the results of an encoder for a person."""
    if probe := made.get("probe"):
        rows = [
            [name, *(f"{100 * probe[key][bound]:.1f} %" for bound in ("value", "low", "high"))]
            for name, key in (("linear probe", "linear"), ("20 nearest neighbours", "neighbours"))
        ]
        table(f"classification of {probe['origin']} by", ["", "accuracy", "from", "to (95 %)"], rows)
    console.print(f"encoder: {made['folder']}", soft_wrap=True)
    console.print(f"report: {made['folder']}/report.json", soft_wrap=True)


def print_generator(made: dict[str, Any]) -> None:
    """Print the results of a generator for a person."""
    rows = [[str(row["step"]), f"{row['error']:.4f}"] for row in made["validation"]]
    table("validation during training", ["step", "denoising error of the averaged weights"], rows)
    if made["game_ended"]:
        console.print("the structure game raised the error and ended; training kept the best weights")
    console.print(f"generator: {made['model']}", soft_wrap=True)
    console.print(f"in a recipe: generator: {{model: {json.dumps(str(made['model']))}}}", soft_wrap=True)
    console.print(f"sha256: {made['digest']}", soft_wrap=True)
    console.print(f"intermediate pictures: {made['work']}/generator/pictures", soft_wrap=True)
    console.print(f"curves: tensorboard --logdir {made['work']}/logs", soft_wrap=True)


def print_student(made: dict[str, Any]) -> None:
    """Print the results of a student for a person."""
    rows = [
        [who, *(f"{100 * made[f'{who}_accuracy'][key]:.1f} %" for key in ("value", "low", "high"))]
        for who in ("student", "teacher")
    ]
    table(f"accuracy on {made['test']['origin']}", ["", "accuracy", "from", "to (95 %)"], rows)
    console.print(f"student: {made['folder']}", soft_wrap=True)
    console.print(f"report: {made['folder']}/report.html", soft_wrap=True)
