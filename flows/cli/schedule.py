"""The commands that build on a schedule; flows/cli/commands.py registers them. See there what a command may do."""

from typing import Annotated, Any

import typer

from tailforge.flows.cli.options import DEFAULT_STORE, Json, RecipeName, Set, Store, console, print_json, table


def serve(
    recipe: RecipeName,
    cron: Annotated[
        str,
        typer.Option(help="When: five cron fields, minute hour day month weekday; no words such as @daily."),
    ] = "0 3 * * *",
    timezone: Annotated[str, typer.Option(help="Name of the IANA time zone that the hours are of.")] = "UTC",
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    check: Annotated[bool, typer.Option("--check", help="Say what would be served, and end.")] = False,
    as_json: Json = False,
) -> None:
    """Build a recipe on a schedule until stopped; needs a Prefect server. Nothing changed, nothing published.

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
    cpu: Annotated[int | None, typer.Option(min=1, help="Builds at a time in work pool cpu; 1 in a new pool.")] = None,
    gpu: Annotated[int | None, typer.Option(min=1, help="Builds at a time in work pool gpu; 1 in a new pool.")] = None,
    dead_after: Annotated[
        int | None,
        typer.Option(min=60, help="Seconds without a sign of life after which a run is marked Crashed; 540 at first."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prepare the Prefect server of PREFECT_API_URL for builds; may be given again, and changes only what it is told.

    It tries whether the server makes the runs of schedules, and says when every deployment comes next.

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
    keeps = ["what the server keeps", f"runs {kept['flow_runs_days']}, events {kept['events_days']}", "its settings"]
    nights = [
        [f"deployment {found['name']}", f"pool {found['work_pool'] or 'none: tailforge serve'}", _tell_next(found)]
        for found in made["deployments"]
    ]
    rows = [*pools, dead_row, keeps, ["scheduler", "made a run as a trial", "works"], *nights]
    table(f"Prefect {made['version']} at {made['server']}", ["what", "how", "done"], rows)


def _tell_next(deployment: dict[str, Any]) -> str:
    if deployment["next"]:
        return f"next at {deployment['next']}"
    return "paused" if deployment["paused"] else "no schedule"
