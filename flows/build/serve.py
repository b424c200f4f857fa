"""Build a recipe on a schedule of a Prefect server, in one process."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from tailforge.catalog.sources.recipes import find_recipe
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build_dataset import build_dataset
from tailforge.flows.server.access import require_server, require_version, server_answers
from tailforge.flows.server.check_scheduler import Scheduler, await_next
from tailforge.flows.server.local_prefect import show_logs
from tailforge.flows.server.read_schedule import next_dates, read_cron
from tailforge.flows.terminal.heartbeat import say
from tailforge.flows.terminal.stopping import leave_signals

SHOWN = 3  # next moments of the schedule


def describe_schedule(
    recipe: str, store: str, cron: str, timezone: str, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the argument of `serve_build`: name, schedule with its next moments, parameters with absolute paths.

    Errors: RecipeError for an invalid schedule or one without a next moment; UserError for an invalid recipe.
    """
    schedule = read_cron(cron, timezone)
    build = prepare_build(recipe, store, overrides)

    return {
        "name": f"nightly-{build.recipe.name}",
        "cron": schedule.cron,
        "timezone": timezone,
        "next": [moment.isoformat() for moment in next_dates(schedule, SHOWN)],
        "parameters": {
            "recipe": str(find_recipe(recipe).resolve()),
            "store": build.store,
            "overrides": list(overrides),
        },
    }


def serve_build(schedule: dict[str, Any]) -> None:
    """Serve a schedule until the process is stopped, one build at a time. The schedule then stays active.

    A run without changes publishes nothing. Errors: OrchestrationError without a server, or if the server makes no run
    of the schedule within an interval of its scheduler.
    """
    address = require_server()
    runner = Runner(name=schedule["name"], limit=1, pause_on_shutdown=False)
    with server_answers(address), get_client(sync_client=True) as client:
        require_version(client, address)
        scheduler = Scheduler.of(address, client.request("GET", "/admin/settings").json())
        applied = runner.add_flow(
            build_dataset,
            name=schedule["name"],
            schedule=Cron(schedule["cron"], timezone=schedule["timezone"]),
            parameters=schedule["parameters"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        announce_next(client, scheduler, client.read_deployment(str(applied)))

    show_logs()  # the log of each run, also of a killed one
    with leave_signals(), suppress(KeyboardInterrupt):  # the runner ends its builds before it ends
        asyncio.run(runner.start())


def announce_next(client: SyncPrefectClient, scheduler: Scheduler, deployment: DeploymentResponse) -> None:
    """Print when the server starts the next run, or that the deployment is paused. Errors: OrchestrationError."""
    if deployment.paused:
        say(f"{deployment.name} is paused on the server: `prefect deployment resume` there, or nothing is built")
        return
    due = await_next(client, scheduler, deployment)
    say(f"{deployment.name}: the server scheduled it; next at {due.isoformat(timespec='minutes')}")
