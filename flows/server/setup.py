"""Prepare a Prefect server for builds: work pools, and an automation that ends runs of dead machines.

The server's retention is a setting of its own process, so this module only reports it. It tests that the server starts
scheduled runs, and reports the next run of every deployment.
"""

from datetime import timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import DeploymentSort
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from pydantic import TypeAdapter

from tailforge.flows.server.access import BUILD_FLOW, require_server, require_version, server_answers
from tailforge.flows.server.check_scheduler import Scheduler, await_next, require_scheduler
from tailforge.flows.server.read_schedule import read_cron
from tailforge.schemas.documents.addresses import hide_secrets
from tailforge.schemas.errors import OrchestrationError, RecipeError

POOLS = {"cpu": "Builds on machines without an accelerator", "gpu": "Builds on machines with an accelerator"}
RUNS_AT_A_TIME = 1
DEAD_RUNS = "tailforge: dead runs"
# Runs send a heartbeat every 180 s. Two lost heartbeats do not end a run.
DEAD_AFTER_S = 540
ALIVE = "prefect.flow-run.heartbeat"
DAY = timedelta(days=1)


def setup_server(limits: dict[str, int | None], dead_after_s: int | None) -> dict[str, Any]:
    """Create what is missing on the server of PREFECT_API_URL; change existing parts only where a value is given.

    `limits`: runs at a time by work pool; None keeps the pool's limit, or the default for a new one. Returns the
    server's
    state; each part has `done`: made, changed or unchanged. Each deployment of a build has its next run.
    Errors: OrchestrationError, also for a server without a working scheduler; RecipeError for a deployment whose
    schedule
    has not five cron fields or never comes. Parts created before an error stay.
    """
    address = require_server()
    with server_answers(address), get_client(sync_client=True) as client:
        version = require_version(client, address)
        pools = [_setup_pool(client, name, limits.get(name)) for name in POOLS]
        automation = _setup_automation(client, dead_after_s)
        settings = client.request("GET", "/admin/settings").json()
        scheduler = Scheduler.of(address, settings)
        require_scheduler(client, scheduler)
        deployments = [_describe_deployment(client, scheduler, found) for found in list_deployments(client)]

    return {
        "server": hide_secrets(address),
        "version": version,
        "work_pools": pools,
        "dead_runs": automation,
        "deployments": deployments,
        "retention": describe_retention(settings["server"]),
    }


def _setup_pool(client: SyncPrefectClient, name: str, limit: int | None) -> dict[str, Any]:
    """Create a work pool or change its limit, and return its state. Errors: OrchestrationError for another type."""
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        wanted = RUNS_AT_A_TIME if limit is None else limit
        made = WorkPoolCreate(name=name, type="process", description=POOLS[name], concurrency_limit=wanted)
        client.create_work_pool(made)
        return {"name": name, "runs_at_a_time": wanted, "done": "made"}
    if pool.type != "process":
        raise OrchestrationError(
            f"work pool {name!r} is there already, of type {pool.type}; builds need type process: delete it by "
            f"`prefect work-pool delete {name}`, or move your deployments to another pool and do without this command"
        )

    if limit is None or limit == pool.concurrency_limit:
        return {"name": name, "runs_at_a_time": pool.concurrency_limit, "done": "unchanged"}
    client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
    return {"name": name, "runs_at_a_time": limit, "done": "changed"}


def list_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Return all deployments of the build flow, by name."""
    ours = FlowFilter(name=FlowFilterName(any_=[BUILD_FLOW]))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(flow_filter=ours, sort=DeploymentSort.NAME_ASC, offset=len(found)):
        found += page
    return found


def _describe_deployment(
    client: SyncPrefectClient, scheduler: Scheduler, deployment: DeploymentResponse
) -> dict[str, Any]:
    """Return its pool and its next run; None for a paused one or one without an active schedule.

    Errors: RecipeError for a schedule without five cron fields.
    """
    name = f"{BUILD_FLOW}/{deployment.name}"
    active = [] if deployment.paused else [each.schedule for each in deployment.schedules if each.active]
    for schedule in active:
        if isinstance(schedule, CronSchedule):
            _require_cron(name, schedule)

    due = await_next(client, scheduler, deployment) if active else None
    return {
        "name": name,
        "work_pool": deployment.work_pool_name,
        "next": due.isoformat() if due else None,
        "paused": deployment.paused,
    }


def _require_cron(name: str, schedule: CronSchedule) -> None:
    """Check the schedule of a deployment. Errors: RecipeError for a schedule without five cron fields."""
    try:
        read_cron(schedule.cron, schedule.timezone or "UTC")
    except RecipeError as error:
        raise RecipeError(
            f"deployment {name}: {str(error).removeprefix('--')}; correct prefect.yaml and deploy again"
        ) from error


def watch_runs(within_s: float) -> AutomationCore:
    """Return the automation that marks runs of deployments as crashed after `within_s` seconds without an event.

    It watches a run from its claim by a worker on; any event of the run restarts the wait. Runs by hand have no
    deployment
    and send no heartbeats, so the automation ignores them.
    """
    states = ("Pending", "Running", "Retrying")

    return AutomationCore(
        name=DEAD_RUNS,
        description="Marks runs as Crashed whose machine or worker died. Made by `tailforge setup`.",
        enabled=True,
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"}
            ),
            for_each={"prefect.resource.id"},
            after={ALIVE, *(f"prefect.flow-run.{state}" for state in states)},
            expect={"prefect.flow-run.*"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within_s),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"Nothing was heard of this run for {within_s:g} s: its machine or worker died. "
                "Retry it, or leave it to the next run; finished work is kept.",
            )
        ],
    )


def _setup_automation(client: SyncPrefectClient, within_s: int | None) -> dict[str, Any]:
    """Create the automation or change its time, and return its state. With several of the name, use the first.

    Errors: OrchestrationError for a trigger of another kind.
    """
    found: list[Automation] = client.read_automations_by_name(DEAD_RUNS)
    if not found:
        wanted = DEAD_AFTER_S if within_s is None else within_s
        client.create_automation(watch_runs(wanted))
        return {"name": DEAD_RUNS, "dead_after_s": wanted, "enabled": True, "done": "made"}
    there = found[0]
    if not isinstance(there.trigger, EventTrigger):
        raise OrchestrationError(
            f"the automation {DEAD_RUNS!r} has a trigger that this command does not know; delete it "
            "on the server's page, and run the command again"
        )

    now_s = int(there.trigger.within.total_seconds())
    if within_s is None or within_s == now_s:
        return {"name": DEAD_RUNS, "dead_after_s": now_s, "enabled": there.enabled, "done": "unchanged"}
    client.update_automation(there.id, watch_runs(within_s))
    return {"name": DEAD_RUNS, "dead_after_s": within_s, "enabled": True, "done": "changed"}


def describe_retention(server: dict[str, Any]) -> dict[str, float | None]:
    """Return how many days a server keeps runs and events, by its own settings; None means for ever."""
    vacuum = server["services"]["db_vacuum"]
    enabled = vacuum["enabled"]
    if isinstance(enabled, bool):  # form of older servers
        enabled = ["events", "flow_runs"] if enabled else ["events"]
    kept = {"flow_runs": vacuum["retention_period"], "events": server["events"]["retention_period"]}
    days = {what: TypeAdapter(timedelta).validate_python(age) / DAY for what, age in kept.items()}
    return {f"{what}_days": age if what in (enabled or ()) else None for what, age in days.items()}
