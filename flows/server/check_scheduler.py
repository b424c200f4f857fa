"""Check that a Prefect server starts scheduled runs, by the runs it creates and not by its settings.

A server answers, accepts deployments and shows their schedules even if its scheduler fails or does not run. Then
nothing would be built, and no message would say so.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import RRuleSchedule
from prefect.client.schemas.sorting import FlowRunSort
from pydantic import TypeAdapter

from tailforge.flows.server.read_schedule import next_dates
from tailforge.schemas.errors import OrchestrationError

PROBE = "tailforge-probe"
PROBE_DUE = timedelta(minutes=30)
PATIENCE_S = 45.0  # added to the scheduler's interval, for a busy machine
ASK_EVERY_S = 0.5


@dataclass(frozen=True)
class Scheduler:
    """Settings of a server's scheduler: seconds between its rounds, and how far ahead it creates runs."""

    address: str
    interval_s: float
    reach: timedelta
    enabled: bool

    @classmethod
    def of(cls, address: str, settings: dict[str, Any]) -> "Scheduler":
        """Return the scheduler that the server's /admin/settings describes."""
        found = settings["server"]["services"]["scheduler"]
        reach = TypeAdapter(timedelta).validate_python(found["max_scheduled_time"])
        return cls(address, float(found["loop_seconds"]), reach, bool(found["enabled"]))


def require_scheduler(client: SyncPrefectClient, scheduler: Scheduler) -> None:
    """Let the server create a run of a test deployment that nobody executes.

    Errors: OrchestrationError if it creates none within an interval of its scheduler.
    """
    with _probe(client) as deployment:
        await_run(client, scheduler, deployment)


@contextmanager
def _probe(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    """Yield a test deployment without a pool, and delete it with its runs afterwards.

    It is due twice, since the server writes a single run otherwise than several.
    """
    due = datetime.now(UTC) + PROBE_DUE
    twice = RRuleSchedule(rrule=f"DTSTART:{due:%Y%m%dT%H%M%S}\nRRULE:FREQ=DAILY;COUNT=2", timezone="UTC")
    flow = client.create_flow_from_name(f"{PROBE}-{uuid4()}")  # a unique name: probes may run in parallel
    try:
        made = client.create_deployment(flow, PROBE, schedules=[DeploymentScheduleCreate(schedule=twice)])
        try:
            yield client.read_deployment(made)
        finally:
            client.delete_deployment(made)
    finally:
        client.delete_flow(flow)


def await_next(client: SyncPrefectClient, scheduler: Scheduler, deployment: DeploymentResponse) -> datetime:
    """Return a deployment's next run, once the server has shown that it will create it.

    A time beyond the scheduler's reach has no run yet; then a test schedule is checked instead.
    Errors: RecipeError if an active schedule never comes; OrchestrationError if the server creates no runs.
    """
    first = min(next_dates(each.schedule, 1)[0] for each in deployment.schedules if each.active)
    if first < datetime.now(UTC) + scheduler.reach - timedelta(days=1):
        return await_run(client, scheduler, deployment)
    require_scheduler(client, scheduler)
    return first


def await_run(client: SyncPrefectClient, scheduler: Scheduler, deployment: DeploymentResponse) -> datetime:
    """Return the due time of a deployment's next run that the server created from its current schedules.

    Errors: OrchestrationError if the server creates none within an interval of its scheduler.
    """
    wait_s = scheduler.interval_s + PATIENCE_S
    end = time.monotonic() + wait_s
    while (due := find_run(client, deployment)) is None:
        if time.monotonic() > end:
            raise OrchestrationError(_explain(scheduler, wait_s))
        time.sleep(ASK_EVERY_S)
    return due


def find_run(client: SyncPrefectClient, deployment: DeploymentResponse) -> datetime | None:
    """Return the due time of the next run created from a deployment's current schedules; None without one."""
    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    runs = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(state=scheduled),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,  # future runs before late ones
    )
    ours: set[UUID] = {schedule.id for schedule in deployment.schedules if schedule.active}
    due = [run.expected_start_time for run in runs if run.created_by is not None and run.created_by.id in ours]
    return min((moment for moment in due if moment is not None), default=None)


def _explain(scheduler: Scheduler, wait_s: float) -> str:
    """Return the error text for a server that creates no runs."""
    off = "" if scheduler.enabled else " (its settings say PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED=false)"
    return (
        f"the Prefect server at {scheduler.address} made no run of a schedule within {wait_s:.0f} s{off}, so it would "
        "never build anything. Look for errors of the scheduler in the server's log. Install the versions of "
        "constraints.txt there (SQLAlchemy must be below 2.1), start it by `prefect server start` with its scheduler "
        "enabled, and run the command again"
    )
