"""Builds a recipe on a schedule: one process that waits for a Prefect server to say when."""

from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.schedules import CronSchedule
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from catalog.recipe_files import find_recipe
from flows.build_dataset import build_dataset
from flows.prepare_build import prepare_build
from flows.server_access import require_server
from schemas.errors import RecipeError


def describe_schedule(
    recipe: str, store: str, cron: str, timezone: str, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """What `serve_build` would serve: name, schedule, parameters with absolute paths.

    Errors: RecipeError for a schedule that cannot be; UserError for a recipe that cannot be built.
    """
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(
            f"--{first['loc'][0]} {first['input']!r}: {first['msg'].removeprefix('Value error, ')}; give five fields "
            "such as '0 3 * * *', and a name such as Europe/Berlin"
        ) from error
    build = prepare_build(recipe, store, overrides)
    return {
        "name": f"nightly-{build.recipe.name}",
        "cron": cron,
        "timezone": timezone,
        "parameters": {
            "recipe": str(find_recipe(recipe).resolve()),
            "store": build.store,
            "overrides": list(overrides),
        },
    }


def serve_build(schedule: dict[str, Any]) -> None:
    """Serve until it is stopped; one build at a time. The schedule stays active, so a process started again goes on.

    A run that finds nothing changed publishes nothing. Errors: OrchestrationError without a server.
    """
    require_server()
    build_dataset.serve(
        name=schedule["name"],
        schedule=Cron(schedule["cron"], timezone=schedule["timezone"]),
        parameters=schedule["parameters"],
        limit=1,
        pause_on_shutdown=False,
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
