"""The command `tailforge`. A command parses, makes one library call and prints; nothing is computed here.

Exit codes: 0 done, 2 the user's error, 1 a failure. Rooms that need torch or Prefect are imported inside the commands
that use them, so that reading a dataset needs neither.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows.embedded import configure_prefect
from schemas.errors import TailforgeError

app = typer.Typer(
    help="Forges versioned synthetic image datasets from recipes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
console = Console()

Store = Annotated[
    str, typer.Option(envvar="TAILFORGE_STORE", help="Folder that holds everything made; to read, any fsspec URI.")
]
Set = Annotated[list[str], typer.Option("--set", help="Override of the recipe, key.path=value; may be repeated.")]
LOW_AGREEMENT = 0.9  # of a teacher with the labels: below, a person is warned
RecipeFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the version's recipe, for models and references that it names by relative paths; by default "
        "the catalog for a recipe of the catalog, else the current folder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RecipeName = Annotated[str, typer.Argument(help="Name in catalog/recipes, or path of a YAML file.")]
DatasetName = Annotated[str, typer.Argument(help="Dataset, or dataset@version; the latest version by default.")]
DEFAULT_STORE = "./store"
ROOMS = ("schemas", "catalog", "tasks", "flows")


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print one table."""
    drawn = Table(*columns, title=title, title_justify="left")
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(drawn)


def plain(value: Any) -> str:
    """Nested values on one line, without the marks of a programming language."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    return "none" if value is None else str(value)


def print_json(value: Any) -> None:
    """One JSON document on standard output, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


@app.command()
def plan(recipe: RecipeName, store: Store = DEFAULT_STORE, set_: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """Show what a build would do: finished and missing work, with time and bytes from earlier receipts.

    Example: `tailforge plan workshop --set concepts.hook.wanted=80`
    """
    from flows.plan_build import PLAN_COLUMNS, plan_build
    from flows.prepare_build import prepare_build

    made = plan_build(prepare_build(recipe, store, set_))
    if as_json:
        return print_json(made.to_json())
    table(f"{recipe} in {store}", list(PLAN_COLUMNS), [list(row) for row in made.list_rows()])
    console.print(made.describe(), highlight=False, soft_wrap=True)


@app.command()
def build(
    recipe: RecipeName,
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=1, help="Steps at a time; one a core by default.")] = None,
    as_json: Json = False,
) -> None:
    """Build a recipe and publish the version; what is finished already is not done again.

    Example: `tailforge build workshop`
    """
    from flows.run_build import run_build

    made = run_build(recipe, store, set_, workers)
    print_json(made) if as_json else print_publication(made)


@app.command()
def rerun(
    recipe: RecipeName,
    stage: Annotated[str, typer.Option(help="Stage to do again: prompts, samples, masks, verdicts, ... shards.")],
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Forget one stage's results for this recipe and build again.

    Example: `tailforge rerun workshop --stage masks`
    """
    from flows.run_build import forget_stage, run_build

    forget_stage(recipe, store, stage, set_)
    made = run_build(recipe, store, set_, None)
    print_json(made) if as_json else print_publication(made)


@app.command()
def status(recipe: RecipeName, store: Store = DEFAULT_STORE, set_: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """Show how far a recipe's build is, and failures by cause.

    Example: `tailforge status workshop --json`
    """
    from flows.plan_build import build_status
    from flows.prepare_build import prepare_build

    found = build_status(prepare_build(recipe, store, set_))
    if as_json:
        return print_json(found)
    table(
        f"{recipe} in {store}", ["stage", "finished", "to do", "rows"], [list(row.values()) for row in found["stages"]]
    )
    table("outcomes", ["outcome", "samples"], [[name, count] for name, count in found["outcomes"].items()])
    console.print(f"published: {found['published'] or 'nothing yet'}")


@app.command("list")
def list_(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """List the datasets of a store with their versions.

    Example: `tailforge list --store ./store`
    """
    from flows.views import list_view

    found = list_view(store)
    if as_json:
        return print_json(found)
    columns = ["dataset", "version", "samples", "created"]
    table(f"datasets in {store}", columns, [[row[column] for column in columns] for row in found])


@app.command()
def show(dataset: DatasetName, store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Show a version: counts, splits, lineage.

    Example: `tailforge show workshop`
    """
    from flows.views import show_view

    found = show_view(store, dataset)
    if as_json:
        return print_json(found)
    for key, value in found.items():
        if key != "lineage":  # long, and for programs: --json prints it
            console.print(f"[bold]{key:9}[/bold] {plain(value)}", highlight=False, soft_wrap=True)


@app.command()
def verify(dataset: DatasetName, store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Read every byte of a version again and compare it with its manifest.

    Example: `tailforge verify workshop@1.0.0`
    """
    from flows.views import verify_view

    found = verify_view(store, dataset)
    print_json(found) if as_json else console.print(f"intact: {found['files']} files, {found['samples']} samples")


@app.command()
def report(
    dataset: DatasetName,
    store: Store = DEFAULT_STORE,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Print where the report of a version is.

    Example: `tailforge report workshop --open`
    """
    from flows.views import report_view

    uri = report_view(store, dataset)
    sys.stdout.write(uri + "\n")
    if open_:
        typer.launch(uri)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="dataset@version")],
    after: Annotated[str, typer.Argument(help="dataset@version")],
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Compare two versions row by row.

    Example: `tailforge diff workshop@1.0.0 workshop@1.1.0`
    """
    from flows.views import diff_view

    found = diff_view(store, before, after)
    print_json(found) if as_json else table(
        f"{before} -> {after}", ["change", "rows"], [list(r) for r in found.items()]
    )


@app.command()
def export(
    dataset: DatasetName,
    format_: Annotated[str, typer.Option("--format", help="coco, panoptic, yolo or voc.")],
    out: Annotated[Path, typer.Option(help="Folder to make; it must not exist yet.")],
    split: Annotated[list[str], typer.Option(help="Only this split; may be repeated.")] = [],  # noqa: B006
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Write a version in another tool's format: its images as they are, its masks, boxes and captions.

    Example: `tailforge export workshop --format coco --out workshop-coco`
    """
    from flows.views import export_view

    made = export_view(store, dataset, format_, out, split)
    if as_json:
        return print_json(made)
    what = f"{made['name']}@{made['version']} ({plain(made['splits'])}) as {format_} in {made['folder']}"
    console.print(f"{what}: {made['files']} files, {made['bytes']} bytes", highlight=False, soft_wrap=True)


@app.command()
def regenerate(
    sample_id: Annotated[str, typer.Argument(help="16 hex digits.")],
    dataset: Annotated[str, typer.Option(help="Dataset, or dataset@version.")],
    store: Store = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(help="Image to write; <sample_id>.png by default.")] = None,
    folder: RecipeFolder = None,
    as_json: Json = False,
) -> None:
    """Make one published image again from its recipe and seed, and compare it with the published bytes.

    Example: `tailforge regenerate 0123456789abcdef --dataset workshop`
    """
    from flows.regenerate_sample import regenerate_sample

    found = regenerate_sample(sample_id, dataset, store, out or Path(f"{sample_id}.png"), folder)
    if as_json:
        return print_json(found)
    console.print(f"{found['file']}: {'equal to' if found['equal'] else 'DIFFERS FROM'} the published bytes")


@app.command()
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
            help="For a teacher: labelled images, a Parquet file with column split, or a folder with train and test in "
            "it, each of one folder a class."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a generator or a teacher by a training recipe; a killed run resumes from its last checkpoint.

    Example: `tailforge train teacher-workshop --work work`
    """
    from flows.train_model import train_model

    made = train_model(recipe, work, models, images)
    print_json(made) if as_json else console.print(plain(made), highlight=False, soft_wrap=True)


@app.command("distill")
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
    teacher_module: Annotated[
        str | None, typer.Option(help="package.module:callable, where the teacher is a torch module of your own.")
    ] = None,
    real: Annotated[
        str | None, typer.Option(help="Learn from these images, given as for --test, in place of a version: a control.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Learn from so many of the images, by lot.")] = None,
    folder: RecipeFolder = None,
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
    from flows.distill_student import distill_student, parse_teacher

    settings = {
        "student": student, "steps": steps, "batch": batch, "learning_rate": learning_rate, "temperature": temperature,
        "label_weight": label_weight, "padding": padding, "flip": flip, "bf16": bf16, "seed": seed,
    }  # fmt: skip
    named = parse_teacher(teacher, teacher_module)
    made = distill_student(dataset, store, test, out, settings, named, real, images, folder)
    print_json(made) if as_json else print_student(made)


def print_student(made: dict[str, Any]) -> None:
    """What a student came to, for a person."""
    rows = [
        [who, *(f"{100 * made[f'{who}_accuracy'][key]:.1f} %" for key in ("value", "low", "high"))]
        for who in ("student", "teacher")
    ]
    table(f"accuracy on {made['test']['origin']}", ["", "accuracy", "from", "to (95 %)"], rows)
    console.print(f"student: {made['folder']}", highlight=False, soft_wrap=True)
    console.print(f"report: {made['folder']}/report.html", highlight=False, soft_wrap=True)


def print_publication(made: dict[str, Any]) -> None:
    """What a build did, for a person."""
    work = (
        ", ".join(f"{count} {stage}" for stage, count in made["work"].items() if count) or "nothing: all was finished"
    )
    new = "published" if made["new"] else "unchanged, already published as"
    console.print(
        f"{new} [bold]{made['name']}@{made['version']}[/bold], {made['samples']} images, in {made['uri']}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"work done: {work}", highlight=False, soft_wrap=True)
    if (agreed := made.get("teacher_agrees", 1.0)) < LOW_AGREEMENT:
        console.print(
            f"[yellow]labels:[/yellow] the teacher sees {100 * agreed:.0f} % of the images as they are labelled; set "
            "quality.gates.teacher_agreement, more engine.steps, or look for another teacher",
            highlight=False,
            soft_wrap=True,
        )
    for name, count in made["shortfall"].items():
        console.print(f"[yellow]short:[/yellow] {name} lacks {count}", highlight=False)
    console.print(f"report: {made['report']}", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: errors of ours become one message and an exit code."""
    configure_prefect()
    try:
        app()
    except TailforgeError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ROOMS:
            raise
        sys.stderr.write(f"error: {error.name} is not installed; this command needs `pip install 'tailforge[build]'`\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
