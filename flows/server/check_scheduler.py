"""Whether a Prefect server makes the runs of schedules: it is asked for runs that it made, not for its settings.

A server answers, takes deployments and shows their schedules while its scheduler fails each minute or does not run at
all. Nothing would be built then, and nobody would be told.
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
PATIENCE_S = 45.0  # beyond the scheduler's own interval, for a busy machine
ASK_EVERY_S = 0.5


@dataclass(frozen=True)
class Scheduler:
    """A server's scheduler by its settings: seconds between its rounds, and how far ahead it makes runs."""

    address: str
    interval_s: float
    reach: timedelta
    enabled: bool

    @classmethod
    def of(cls, address: str, settings: dict[str, Any]) -> "Scheduler":
        """From what the server's /admin/settings answers."""
        found = settings["server"]["services"]["scheduler"]
        reach = TypeAdapter(timedelta).validate_python(found["max_scheduled_time"])
        return cls(address, float(found["loop_seconds"]), reach, bool(found["enabled"]))


def require_scheduler(client: SyncPrefectClient, scheduler: Scheduler) -> None:
    """Let the server make the run of a deployment that is there for this only, and that nobody executes.

    Errors: OrchestrationError if it makes none within an interval of its scheduler.
    """
    with _probe(client) as deployment:
        await_run(client, scheduler, deployment)


@contextmanager
def _probe(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    """A deployment that is due twice (one run alone is written otherwise than several), without a pool.

    It goes at the end, with its runs.
    """
    due = datetime.now(UTC) + PROBE_DUE
    twice = RRuleSchedule(rrule=f"DTSTART:{due:%Y%m%dT%H%M%S}\nRRULE:FREQ=DAILY;COUNT=2", timezone="UTC")
    flow = client.create_flow_from_name(f"{PROBE}-{uuid4()}")  # one's own: another probe may run at the same time
    try:
        made = client.create_deployment(flow, PROBE, schedules=[DeploymentScheduleCreate(schedule=twice)])
        try:
            yield client.read_deployment(made)
        finally:
            client.delete_deployment(made)
    finally:
        client.delete_flow(flow)


def await_next(client: SyncPrefectClient, scheduler: Scheduler, deployment: DeploymentResponse) -> datetime:
    """When a deployment comes next, once the server has shown that it will make that run.

    A moment that lies beyond the scheduler's reach has no run yet: there another schedule is tried in its place.
    Errors: RecipeError if an active schedule never comes; OrchestrationError if the server makes no runs.
    """
    first = min(next_dates(each.schedule, 1)[0] for each in deployment.schedules if each.active)
    if first < datetime.now(UTC) + scheduler.reach - timedelta(days=1):
        return await_run(client, scheduler, deployment)
    require_scheduler(client, scheduler)
    return first


def await_run(client: SyncPrefectClient, scheduler: Scheduler, deployment: DeploymentResponse) -> datetime:
    """When the next run of a deployment is due that the server made by its schedules, as they are now.

    Errors: OrchestrationError if the server makes none within an interval of its scheduler.
    """
    wait_s = scheduler.interval_s + PATIENCE_S
    end = time.monotonic() + wait_s
    while (due := find_run(client, deployment)) is None:
        if time.monotonic() > end:
            raise OrchestrationError(_explain(scheduler, wait_s))
        time.sleep(ASK_EVERY_S)
    return due


def find_run(client: SyncPrefectClient, deployment: DeploymentResponse) -> datetime | None:
    """When the next run is due that the server made by the schedules a deployment has now; None if it made none."""
    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    runs = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(state=scheduled),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,  # those to come before those that are late
    )
    ours: set[UUID] = {schedule.id for schedule in deployment.schedules if schedule.active}
    due = [run.expected_start_time for run in runs if run.created_by is not None and run.created_by.id in ours]
    return min((moment for moment in due if moment is not None), default=None)


def _explain(scheduler: Scheduler, wait_s: float) -> str:
    off = "" if scheduler.enabled else " (its settings say PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED=false)"
    return (
        f"the Prefect server at {scheduler.address} made no run of a schedule within {wait_s:.0f} s{off}, so nothing "
        "would ever be built. Look for errors of its scheduler in its log. Install there what constraints.txt names "
        "(SQLAlchemy must be below 2.1), start it by `prefect server start` with its scheduler enabled, and give the "
        "command again"
    )
