"""The command `tailforge example`. flows/cli/commands.py registers it and says what a command may do."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tailforge.flows.cli.options import Json, console, print_json, table
from tailforge.flows.terminal.stopping import run_stoppable
from tailforge.schemas.errors import UserError


def example(
    out: Annotated[Path, typer.Option(help="Folder to write, new or empty.")] = Path("parts"),
    defects: Annotated[
        bool, typer.Option("--defects", help="Write pictures of good parts and of a few with each defect, with masks.")
    ] = False,
    held_back: Annotated[
        Path | None,
        typer.Option(help="Folder to write with further pictures of the rare parts, for an exchange rate."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write class folders of rendered machine parts, four of them rare, to try Tailforge on.

    Example: `tailforge example --out parts`
    """
    from tailforge.flows.photographs.defect_example import write_defect_example
    from tailforge.flows.photographs.example import write_example

    if defects and held_back is not None:
        raise UserError("--held-back: the pictures of --defects have no rare parts; leave out one of both")
    made = run_stoppable(write_defect_example, out) if defects else run_stoppable(write_example, out, held_back)
    print_json(made) if as_json else print_example(made)


def print_example(made: dict[str, Any]) -> None:
    """Print what was written and what comes next for a person."""
    rows = [[each["name"], each["train"], each["validation"], each["test"]] for each in made["classes"]]
    table("pictures per class", ["class", "train", "validation", "test"], rows)
    console.print(f"folder: {made['folder']}", soft_wrap=True, markup=False)
    if made.get("held_back"):
        console.print(f"held back: {made['held_back']}", soft_wrap=True, markup=False)
    console.print(f"next: {made['next']}", soft_wrap=True, markup=False)
