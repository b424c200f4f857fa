"""Commands to operate builds: status, rerun, diff and gc. flows/cli/commands.py states the rules for commands."""

from collections import Counter
from typing import Annotated, Any

import typer

from tailforge.flows.cli.options import (
    DEFAULT_STORE,
    Devices,
    Json,
    RayAddress,
    RecipeOrDataset,
    Runner,
    Set,
    Store,
    WorkerCount,
    Yes,
    console,
    plain,
    print_json,
    table,
)
from tailforge.flows.cli.publication import print_publication
from tailforge.flows.terminal.stopping import run_stoppable
from tailforge.schemas.documents.shown import count_of

SHOWN_ROWS = 20


def status(
    recipe: RecipeOrDataset,
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show the progress of a build, by default the last one: missing and failed partitions, and failures by cause.

    Example: `tailforge status workshop --json`
    """
    from tailforge.flows.build.choose import require_build

    require_build(recipe, store, set_, last=True)
    from tailforge.flows.build.status import status_view

    found = status_view(recipe, store, set_)
    print_json(found) if as_json else print_status(recipe, store, found)


def print_status(recipe: str, store: str, found: dict[str, Any]) -> None:
    """Print the progress of a build for a person."""
    print_told(found)
    stages = [list(row.values()) for row in found["stages"]]
    table(f"{recipe} in {store}", ["stage", "finished", "to do", "rows"], stages)
    table("outcomes", ["outcome", "samples"], [[name, count] for name, count in found["outcomes"].items()])

    rows = [[p["partition"], p["stage"], p["state"], plain(p["causes"])] for p in found["partitions"]]
    if rows:
        table("unfinished partitions", ["partition", "stage", "state", "cause"], rows[:SHOWN_ROWS])
        print_more(len(rows))

    for each in found["failures"]:
        console.print(f"{each['count']} x {each['stage']}: {each['cause']}")
        console.print(f"  repair: {each['mend']}", soft_wrap=True)
    if any(each["state"] == "missing" for each in found["partitions"]) and not found["failures"]:
        console.print("nothing failed: `tailforge build` with this recipe makes the missing partitions")
    worth = f", {found['evaluated']}" if found["evaluated"] else ""
    console.print(f"published: {found['published'] or 'nothing yet'}{worth}", soft_wrap=True)


def print_told(found: dict[str, Any]) -> None:
    """Print the overrides of the last build that apply because the command names none."""
    if found.get("told"):
        console.print(found["told"], soft_wrap=True)


def print_more(count: int) -> None:
    """Print how many rows of a long table are left out."""
    if count > SHOWN_ROWS:
        console.print(f"... and {count - SHOWN_ROWS} more; --json lists all")


def rerun(
    recipe: RecipeOrDataset,
    stage: Annotated[str | None, typer.Option(help="Stage to run again: prompts, samples, masks, ... shards.")] = None,
    partition: Annotated[
        list[str],
        typer.Option(
            help='Partition to make again, named as in status, such as "gear r0 template:0 #0"; may be repeated. '
            "With --stage it runs again from that stage on."
        ),
    ] = [],  # noqa: B006
    failed_samples: Annotated[
        bool, typer.Option("--failed-samples", help="Make only the failed images again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be made again, and change nothing.")
    ] = False,
    store: Store = DEFAULT_STORE,
    set_: Set = [],  # noqa: B006
    runner: Runner = "threads",
    workers: WorkerCount = None,
    devices: Devices = None,
    ray_address: RayAddress = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Run a stage, partitions or the failed samples of a build (by default the last one) again, and publish.

    Example: `tailforge rerun workshop --failed-samples`
    """
    from tailforge.flows.build.choose import require_build

    require_build(recipe, store, set_, last=True)
    from tailforge.flows.build.rerun import rerun_build
    from tailforge.flows.cli.option_settings import worker_settings

    settings = worker_settings(runner, workers, devices, ray_address)
    made = run_stoppable(
        rerun_build,
        recipe,
        store,
        set_,
        stage,
        partition,
        failed=failed_samples,
        settings=settings,
        any_cost=yes,
        dry_run=dry_run,
    )
    if as_json:
        return print_json(made)
    print_told(made)
    if "nothing" in made:
        console.print(made["nothing"])
    elif dry_run:
        print_parts(made["parts"])
    else:
        print_publication(made)


def print_parts(parts: list[dict[str, str]]) -> None:
    """Print what a rerun would make again."""
    table("would be made again", ["stage", "partition"], [list(each.values()) for each in parts[:SHOWN_ROWS]])
    print_more(len(parts))
    console.print("Nothing was changed. Later stages follow where bytes change", soft_wrap=True)


def diff(
    before: Annotated[
        str, typer.Argument(help="Older version: dataset@version; a dataset or recipe alone means the latest.")
    ],
    after: Annotated[
        str,
        typer.Argument(help="Newer version: dataset@version; a dataset or recipe alone means the latest."),
    ],
    rows: Annotated[bool, typer.Option("--rows", help="List the changed samples and their changed fields.")] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Compare two versions row by row, by content and not by packing.

    Example: `tailforge diff workshop@1.0.0 workshop --rows`
    """
    from tailforge.flows.build.queries import diff_view

    found = diff_view(store, before, after)
    if as_json:
        return print_json(found)

    counts = [[change, found[change]] for change in ("added", "removed", "changed")]
    fields = [[f"  {name}", count] for name, count in found["fields"].items()]
    table(f"{before} -> {after}", ["change", "rows"], counts + fields)

    if rows:
        shown = [[r["sample_id"], r["change"], plain(r["fields"])] for r in found["rows"][:SHOWN_ROWS]]
        table("samples", ["sample", "change", "fields"], shown)
        print_more(len(found["rows"]))


def gc(
    store: Store = DEFAULT_STORE,
    days: Annotated[float, typer.Option(min=1, help="Keep artifacts written in the last so many days.")] = 7,
    keep: Annotated[list[str], typer.Option(help="Keep the finished work of this recipe; may be repeated.")] = [],  # noqa: B006
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove the artifacts; without this option nothing is removed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List artifacts that no version needs, and with --delete remove them.

    Example: `tailforge gc --days 30`
    """
    from tailforge.flows.build.collect_garbage import collect_garbage

    found = collect_garbage(store, days, keep, delete=delete)
    if as_json:
        return print_json(found)

    size: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for each in found["removed"]:
        size[each["stage"]] += each["bytes"]
        count[each["stage"]] += 1

    table("removed" if delete else "would be removed", ["stage", "artifacts", "bytes"],
          [[stage, count[stage], size[stage]] for stage in count])  # fmt: skip
    table("kept", ["why", "artifacts"], [list(entry) for entry in found["kept"].items()])
    rest = "" if delete else "; nothing was removed, --delete removes them"
    size_told = f"{count_of(found['bytes'], 'byte')}{rest}"
    console.print(f"{size_told}. Versions keep their shards: they hold hard links of their own", soft_wrap=True)
