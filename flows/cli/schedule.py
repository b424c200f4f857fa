"""Commands for builds on a schedule. flows/cli/commands.py registers them."""

from typing import Annotated, Any

import typer

from tailforge.flows.cli.options import DEFAULT_STORE, Json, RecipeName, Set, Store, console, print_json, table


def serve(
    recipe: RecipeName,
    cron: Annotated[
        str,
        typer.Option(help="Times: five cron fields, minute hour day month weekday; no words such as @daily."),
    ] = "0 3 * * *",
    timezone: Annotated[str, typer.Option(help="IANA time zone of the cron fields.")] = "UTC",
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    check: Annotated[bool, typer.Option("--check", help="Print the schedule and end.")] = False,
    as_json: Json = False,
) -> None:
    """Build a recipe on a schedule until stopped. It needs a Prefect server, and publishes only changed datasets.

    Example: `tailforge serve workshop --cron "0 3 * * *" --timezone Europe/Berlin`
    """
    from tailforge.flows.build.serve import describe_schedule, serve_build

    schedule = describe_schedule(recipe, store, cron, timezone, set_)
    if as_json:
        print_json(schedule)
    else:
        what = f"{schedule['name']}: {cron} ({timezone}), store {schedule['parameters']['store']}"
        console.print(what, soft_wrap=True)
    if not check:
        serve_build(schedule)


def setup(
    cpu: Annotated[
        int | None, typer.Option(min=1, help="Builds at a time in work pool cpu; a new pool starts with 1.")
    ] = None,
    gpu: Annotated[
        int | None, typer.Option(min=1, help="Builds at a time in work pool gpu; a new pool starts with 1.")
    ] = None,
    dead_after: Annotated[
        int | None,
        typer.Option(min=60, help="Seconds without a heartbeat before a run is marked Crashed; a new server gets 540."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prepare the Prefect server of PREFECT_API_URL for builds. A second call changes only the options given.

    It tests that the server starts scheduled runs, and prints the next run of every deployment.

    Example: `tailforge setup --gpu 4`
    """
    from tailforge.flows.server.setup import setup_server

    made = setup_server({"cpu": cpu, "gpu": gpu}, dead_after)
    if as_json:
        return print_json(made)

    pools = [
        [f"work pool {pool['name']}", f"{pool['runs_at_a_time']} at a time", pool["done"]]
        for pool in made["work_pools"]
    ]
    dead = made["dead_runs"]
    off = "" if dead["enabled"] else ", switched off"
    dead_row = ["automation for dead runs", f"crashed after {dead['dead_after_s']} s{off}", dead["done"]]
    kept = {
        name: "for ever" if age is None else f"{age:g} day{'s' * (age != 1)}" for name, age in made["retention"].items()
    }
    keeps = ["retention of the server", f"runs {kept['flow_runs_days']}, events {kept['events_days']}", "its settings"]

    nights = [
        [f"deployment {found['name']}", f"pool {found['work_pool'] or 'none: tailforge serve'}", _tell_next(found)]
        for found in made["deployments"]
    ]
    rows = [*pools, dead_row, keeps, ["scheduler", "started a test run", "works"], *nights]
    table(f"Prefect {made['version']} at {made['server']}", ["what", "how", "done"], rows)


def _tell_next(deployment: dict[str, Any]) -> str:
    """Return when a deployment runs next, or why it does not."""
    if deployment["next"]:
        return f"next at {deployment['next']}"
    return "paused" if deployment["paused"] else "no schedule"
