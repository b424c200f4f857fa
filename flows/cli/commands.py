"""The command `tailforge`. A command parses, makes one library call and prints; it computes nothing.

Larger commands have files of their own in flows/cli. Exit codes: 0 done, 2 the user's error, 1 a failure, 3 stopped at
a limit of the command.
Commands import what they need inside their functions, so that help answers at once and reading a dataset needs neither
torch nor Prefect.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tailforge.flows.cli.audit import audit
from tailforge.flows.cli.command_line import run_words
from tailforge.flows.cli.doctor import doctor
from tailforge.flows.cli.evaluate import evaluate
from tailforge.flows.cli.example import example
from tailforge.flows.cli.explain import explain
from tailforge.flows.cli.hub import pull, push
from tailforge.flows.cli.init import init
from tailforge.flows.cli.main import main
from tailforge.flows.cli.operate import diff, gc, rerun, status
from tailforge.flows.cli.options import (
    DEFAULT_STORE,
    AcceleratorPrice,
    DatasetName,
    Devices,
    Json,
    MachinePrice,
    MaxCost,
    MaxHours,
    MaxImages,
    RayAddress,
    RecipeFolder,
    RecipeName,
    Runner,
    Set,
    Store,
    TeacherModule,
    WorkerCount,
    Yes,
    app,
    console,
    plain,
    print_json,
    table,
)
from tailforge.flows.cli.plan import plan
from tailforge.flows.cli.publication import print_publication
from tailforge.flows.cli.review import review
from tailforge.flows.cli.schedule import serve, setup
from tailforge.flows.cli.schema import new, schema
from tailforge.flows.cli.train import distill_, pretrain, train
from tailforge.flows.server.local_prefect import configure_prefect, explain_setting
from tailforge.flows.terminal.console import require_text, tell_error
from tailforge.flows.terminal.stopping import run_stoppable
from tailforge.schemas.documents.shown import count_of, visible
from tailforge.schemas.errors import TailforgeError
from tailforge.schemas.extras import how_to_install, name_extra

__all__ = ["app", "main"]

app.command()(example)
app.command()(init)
app.command()(new)
app.command()(schema)
app.command()(plan)
app.command()(audit)


@app.command()
def build(
    recipe: RecipeName,
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    runner: Runner = "threads",
    workers: WorkerCount = None,
    devices: Devices = None,
    ray_address: RayAddress = None,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    max_images: MaxImages = None,
    accelerator_price: AcceleratorPrice = None,
    machine_price: MachinePrice = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Build a recipe and publish the version; finished work is kept and not repeated.

    Exit code 3 if a limit stopped it: the same command goes on.

    Example: `tailforge build workshop`
    """
    from tailforge.flows.build.choose import require_build

    require_build(recipe, store, set_)
    from tailforge.flows.build.run import run_build
    from tailforge.flows.cli.option_settings import run_limits, worker_settings

    settings = worker_settings(runner, workers, devices, ray_address)
    limits = run_limits(max_cost, max_hours, max_images, accelerator_price, machine_price)
    made = run_stoppable(run_build, recipe, store, set_, settings, any_cost=yes, limits=limits)
    print_json(made) if as_json else print_publication(made)


@app.command("list")
def list_(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """List the datasets of a store with their versions.

    Example: `tailforge list --store ./store`
    """
    from tailforge.flows.build.queries import list_view

    found = list_view(store)
    if as_json:
        return print_json(found)
    columns = ["dataset", "version", "samples", "created"]
    table(f"datasets in {store}", columns, [[row[column] for column in columns] for row in found])


@app.command()
def show(dataset: DatasetName, store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Show a version: its counts, splits and lineage.

    Example: `tailforge show workshop`
    """
    from tailforge.flows.build.queries import show_view

    found = show_view(store, dataset)
    if as_json:
        return print_json(found)
    for key, value in found.items():
        if key != "lineage":  # too long for a person; --json prints it
            console.print(Text.assemble((f"{key:9}", "bold"), " ", visible(plain(value))), soft_wrap=True)


@app.command()
def verify(dataset: DatasetName, store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Read every byte of a version again and compare the bytes with its manifest.

    Example: `tailforge verify workshop@1.0.0`
    """
    from tailforge.flows.build.queries import verify_view

    found = verify_view(store, dataset)
    if as_json:
        return print_json(found)
    console.print(f"intact: {count_of(found['files'], 'file')}, {count_of(found['samples'], 'sample')}")


@app.command()
def report(
    dataset: DatasetName,
    store: Store = DEFAULT_STORE,
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Print the address of a version's report; with --json also the facts of its summary.json.

    Example: `tailforge report workshop --open`
    """
    from tailforge.flows.build.queries import report_view, summary_view

    uri = report_view(store, dataset)
    if as_json:
        print_json({"report": uri, "summary": summary_view(store, dataset)})
    else:
        sys.stdout.write(visible(uri) + "\n")
    if open_:
        typer.launch(uri)


@app.command()
def export(
    dataset: DatasetName,
    format_: Annotated[
        str, typer.Option("--format", help="Format: coco, panoptic, yolo, voc, imagefolder or huggingface.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to create; it must not exist yet.")],
    split: Annotated[list[str], typer.Option(help="Split to export, by default all; may be repeated.")] = [],  # noqa: B006
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Write a version's images, masks, boxes and captions in another tool's format. Images stay unchanged.

    Example: `tailforge export workshop --format coco --out workshop-coco`
    """
    from tailforge.flows.build.queries import export_view

    made = export_view(store, dataset, format_, out, split)
    if as_json:
        return print_json(made)
    what = f"{made['name']}@{made['version']} ({plain(made['splits'])}) as {format_} in {made['folder']}"
    console.print(f"{what}: {count_of(made['files'], 'file')}, {count_of(made['bytes'], 'byte')}", soft_wrap=True)


@app.command()
def regenerate(
    sample_id: Annotated[str, typer.Argument(help="Sample to make again: its id of 16 hex digits.")],
    dataset: Annotated[str, typer.Option(help="Dataset, dataset@version or recipe.")],
    store: Store = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(help="Image file to write; <sample_id>.png by default.")] = None,
    folder: RecipeFolder = None,
    teacher_module: TeacherModule = None,
    as_json: Json = False,
) -> None:
    """Make one published image again from its recipe and seed, and compare it with the published bytes.

    Example: `tailforge regenerate 0123456789abcdef --dataset workshop`
    """
    from tailforge.flows.samples.regenerate import regenerate_sample

    found = run_stoppable(
        regenerate_sample, sample_id, dataset, store, out or Path(f"{sample_id}.png"), folder, teacher_module
    )
    if as_json:
        return print_json(found)
    console.print(f"{found['file']}: {'equal to' if found['equal'] else 'DIFFERS FROM'} the published bytes")


app.command()(push)
app.command()(pull)
app.command()(status)
app.command()(rerun)
app.command()(diff)
app.command()(gc)
app.command()(explain)
app.command()(review)
app.command()(serve)
app.command()(setup)
app.command()(train)
app.command("distill")(distill_)
app.command()(pretrain)
app.command()(evaluate)
app.command()(doctor)


def run_command() -> None:
    """Run the command of the command line; print one line for a known error and exit with its code.

    Errors: SystemExit with 2 for a user's error or a missing package, 3 at a limit of the command, else 1. Other errors
    pass through.
    """
    configure_prefect()
    try:
        require_text(sys.argv[1:])
        run_words(app, sys.argv[1:])
    except TailforgeError as error:
        tell_error(str(error))
        sys.exit(error.exit_code)
    except ValueError as error:
        if (said := explain_setting(error)) is None:
            raise
        tell_error(said)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "tailforge":
            raise
        tell_error(f"{error.name} is not installed; {how_to_install(name_extra(error.name or ''))}")
        sys.exit(2)


if __name__ == "__main__":
    main()
