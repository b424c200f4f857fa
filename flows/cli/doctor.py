"""The command `tailforge doctor`."""

from typing import Annotated, Any

import typer

from tailforge.flows.cli.options import DEFAULT_STORE, Json, Store, console, print_json, table
from tailforge.flows.terminal.stopping import run_stoppable


def doctor(
    store: Store = DEFAULT_STORE,
    seconds: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds of drawing to measure recipes by; 0 measures no speed.")
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Say what this machine can do: devices, libraries, store, server, browser, and how fast recipes draw.

    Exit codes: 0 if builds work here, 1 if something that they need is missing or broken.

    Example: `tailforge doctor --store ./store`
    """
    from tailforge.flows.doctor.examine import examine_machine

    found = run_stoppable(examine_machine, store, seconds)
    print_json(found.to_json()) if as_json else print_examination(found)
    if not found.builds:
        raise typer.Exit(1)


def print_examination(found: Any) -> None:
    """Print an examination for a person."""
    rows = [[each.topic, each.state, each.found] for each in found.findings]
    table("this machine", ["topic", "state", "found"], rows)
    if found.recipes:
        rows = [[row["recipe"], "yes" if row["fits"] else "no", *_measured(row), row["note"]] for row in found.recipes]
        table("recipes of the catalog", ["recipe", "fits", "weights", "an image", "note"], rows)
    for each in found.findings:
        if each.mend:
            console.print(f"{each.topic}: {each.mend}", soft_wrap=True, highlight=False)
    console.print("builds work here" if found.builds else "builds do not work here", soft_wrap=True)


def _measured(row: dict[str, Any]) -> list[str]:
    """Return the size of a recipe's weights and its time per image, for people."""
    from tailforge.tasks.report.units import show_bytes, show_seconds

    return [show_bytes(row["weights"]), "" if row["seconds"] is None else show_seconds(row["seconds"])]
