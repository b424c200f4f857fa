"""The commands of `tailforge` that train; flows/cli/commands.py registers them. See there what a command may do."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tailforge.flows.cli.options import (
    DEFAULT_STORE,
    DatasetName,
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
from tailforge.schemas.settings.fields import Fit

FitOption = Annotated[
    Fit,
    typer.Option(help="Labelled images of another size: exact refuses them, crop scales and keeps the middle."),
]


def train(
    recipe: Annotated[str, typer.Argument(help="Training recipe: name in catalog/recipes or path.")],
    work: Annotated[Path, typer.Option(help="Folder for data, checkpoints and logs; a rerun resumes from it.")] = Path(
        "work"
    ),
    models: Annotated[
        Path | None, typer.Option(help="Folder that gets the model's folder; catalog/models by default.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="In place of the recipe's. For a teacher: labelled images, a Parquet file with column split, or a "
            "folder with train and test in it, each of one folder a class. For a generator: images with captions or "
            "classes, a folder or a Parquet file (docs/how-to/training.md)."
        ),
    ] = None,
    set_: Annotated[
        list[str], typer.Option("--set", help="Setting in place of the recipe's, key.path=value; may be repeated.")
    ] = [],  # noqa: B006
    devices: Annotated[
        int, typer.Option(min=1, help="For a generator: processes that train it together, each with its accelerator.")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Train a generator or a teacher by a training recipe; a killed run resumes from its last checkpoint.

    Example: `tailforge train adapt-workshop --images photographs --set name=deer`
    """
    from tailforge.flows.training.train_model import train_model

    made = run_stoppable(train_model, recipe, work, models, images, set_, devices)
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
            help="Labelled images to measure with: Parquet file (image, label, split), folder of one folder a class, "
            "or dataset@version."
        ),
    ],
    dataset: Annotated[
        str | None, typer.Argument(help="Images to learn from: dataset, or dataset@version; else --real.")
    ] = None,
    store: Store = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(help="Folder of the student; a rerun continues in it.")] = Path("student"),
    teacher: Annotated[
        str | None,
        typer.Option(
            help="catalog:NAME, folder, or owner/name@commit; by default the teacher that the version was made from."
        ),
    ] = None,
    teacher_module: TeacherModule = None,
    real: Annotated[
        str | None, typer.Option(help="Learn from these images, given as for --test, in place of a version: a control.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Learn from so many of the images, by lot.")] = None,
    folder: RecipeFolder = None,
    fit: FitOption = "exact",
    student: Annotated[str, typer.Option(help="resnet-small or resnet18.")] = "resnet-small",
    steps: Annotated[int, typer.Option(help="Training steps.")] = 1000,
    batch: Annotated[int, typer.Option(help="Images in a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of the cosine schedule.")] = 0.1,
    temperature: Annotated[float, typer.Option(help="Of the softmax of teacher and student.")] = 4.0,
    label_weight: Annotated[float, typer.Option(help="Of the cross entropy with the images' own labels.")] = 0.0,
    padding: Annotated[int, typer.Option(help="Views are cropped from so many reflected pixels around an image.")] = 2,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the views; not for digits and letters.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Forward passes in bfloat16.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, order and views.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a student on a version's images and their teacher's outputs, and measure it on real labelled images.

    Example: `tailforge distill workshop_inversion --test photographs/`
    """
    from tailforge.flows.training.distill_student import distill_student, parse_teacher

    settings = {
        "student": student, "steps": steps, "batch": batch, "learning_rate": learning_rate, "temperature": temperature,
        "label_weight": label_weight, "padding": padding, "flip": flip, "bf16": bf16, "seed": seed,
    }  # fmt: skip
    named = None if teacher is None else parse_teacher(teacher, teacher_module)
    own = teacher_module if teacher is None else None
    made = run_stoppable(distill_student, dataset, store, test, out, settings, named, real, images, folder, own, fit)
    print_json(made) if as_json else print_student(made)


def pretrain(
    dataset: DatasetName,
    use: Annotated[str, typer.Option(help="contrastive, masked or caption.")],
    masks: Annotated[
        str,
        typer.Option(
            help="attention (the version's own), none, box (random boxes of equal area: a control), or a folder of "
            "<sample_id>.png with values as in the version's masks."
        ),
    ] = "attention",
    store: Store = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(help="Folder of the encoder; a rerun continues in it.")] = Path("encoder"),
    split: Annotated[str, typer.Option(help="Split to learn from.")] = "train",
    images: Annotated[int | None, typer.Option(min=1, help="Learn from so many of the images, by lot.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; the default is the use's.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images in a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate of the cosine schedule.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order, views and draws.")] = 0,
    set_: Annotated[
        list[str],
        typer.Option("--set", help="Further setting, key=value (docs/how-to/pretraining.md); may be repeated."),
    ] = [],  # noqa: B006
    probe: Annotated[
        str | None,
        typer.Option(
            help="Labelled images that the features are measured on: Parquet file (image, label, split), folder with "
            "train and test in it, each of one folder a class, or dataset@version."
        ),
    ] = None,
    fit: FitOption = "exact",
    as_json: Json = False,
) -> None:
    """Pre-train an image encoder on a version's images, with or without its masks.

    Example: `tailforge pretrain workshop --use masked --masks attention --out encoder`
    """
    from tailforge.flows.training.pretrain_representation import pretrain_representation

    settings = {"steps": steps, "batch": batch, "learning_rate": learning_rate, "seed": seed}
    made = run_stoppable(
        pretrain_representation, dataset, store, use, masks, out, settings, set_, split, images, probe, fit
    )
    print_json(made) if as_json else print_encoder(made)


def print_encoder(made: dict[str, Any]) -> None:
    """What an encoder came to, for a person."""
    if probe := made.get("probe"):
        rows = [
            [name, *(f"{100 * probe[key][bound]:.1f} %" for bound in ("value", "low", "high"))]
            for name, key in (("a line", "linear"), ("20 neighbours", "neighbours"))
        ]
        table(f"classes of {probe['origin']} told apart by", ["", "accuracy", "from", "to (95 %)"], rows)
    console.print(f"encoder: {made['folder']}", soft_wrap=True)
    console.print(f"report: {made['folder']}/report.json", soft_wrap=True)


def print_generator(made: dict[str, Any]) -> None:
    """What a generator came to, for a person."""
    rows = [[str(row["step"]), f"{row['error']:.4f}"] for row in made["validation"]]
    table("while it learnt", ["step", "denoising error of the averaged weights"], rows)
    if made["game_ended"]:
        console.print("the structure game made the error worse and was ended; the best weights were taken up")
    console.print(f"generator: {made['model']}", soft_wrap=True)
    console.print(f"in a recipe: generator: {{model: {json.dumps(str(made['model']))}}}", soft_wrap=True)
    console.print(f"sha256: {made['digest']}", soft_wrap=True)
    console.print(f"pictures on the way: {made['work']}/generator/pictures", soft_wrap=True)
    console.print(f"curves: tensorboard --logdir {made['work']}/logs", soft_wrap=True)


def print_student(made: dict[str, Any]) -> None:
    """What a student came to, for a person."""
    rows = [
        [who, *(f"{100 * made[f'{who}_accuracy'][key]:.1f} %" for key in ("value", "low", "high"))]
        for who in ("student", "teacher")
    ]
    table(f"accuracy on {made['test']['origin']}", ["", "accuracy", "from", "to (95 %)"], rows)
    console.print(f"student: {made['folder']}", soft_wrap=True)
    console.print(f"report: {made['folder']}/report.html", soft_wrap=True)
