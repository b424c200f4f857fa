"""The command that builds on a schedule; flows/cli.py registers it. See there what a command may do."""

from typing import Annotated

import typer

from flows.cli_parts import DEFAULT_STORE, Json, RecipeName, Set, Store, console, print_json


def serve(
    recipe: RecipeName,
    cron: Annotated[str, typer.Option(help="When, as five fields: minute hour day month weekday.")] = "0 3 * * *",
    timezone: Annotated[str, typer.Option(help="Name of the IANA time zone that the hours are of.")] = "UTC",
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    check: Annotated[bool, typer.Option("--check", help="Say what would be served, and end.")] = False,
    as_json: Json = False,
) -> None:
    """Build a recipe on a schedule until stopped; needs a Prefect server. Nothing changed, nothing published.

    Example: `tailforge serve workshop --cron "0 3 * * *" --timezone Europe/Berlin`
    """
    from flows.serve_build import describe_schedule, serve_build

    schedule = describe_schedule(recipe, store, cron, timezone, set_)
    if as_json:
        print_json(schedule)
    else:
        what = f"{schedule['name']}: {cron} ({timezone}), store {schedule['parameters']['store']}"
        console.print(what, highlight=False, soft_wrap=True)
    if not check:
        serve_build(schedule)
