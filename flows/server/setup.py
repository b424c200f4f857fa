"""Prepares a Prefect server for builds: work pools, and an automation that ends the runs of dead machines.

What a server remembers and for how long are settings of its own process, so they are only told. Whether it makes the
runs of schedules is tried out, and when every deployment of builds comes next is told.
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
# Runs tell every 180 s that they live. Two lost messages are not yet a death.
DEAD_AFTER_S = 540
ALIVE = "prefect.flow-run.heartbeat"
DAY = timedelta(days=1)


def setup_server(limits: dict[str, int | None], dead_after_s: int | None) -> dict[str, Any]:
    """Make what is missing on the server of PREFECT_API_URL; change what is there only where a value is given.

    `limits`: runs at a time by work pool, None for the default (a new pool) or what it is (an old one). Returns what is
    there now, each with `done`: made, changed or unchanged, and when each deployment of a build comes next.
    Errors: OrchestrationError, also for a server that makes no runs of schedules; RecipeError for a deployment whose
    schedule is none of five cron fields or never comes. What was made stays.
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
            f"`prefect work-pool delete {name}`, or give your deployments another pool and leave this command"
        )
    if limit is None or limit == pool.concurrency_limit:
        return {"name": name, "runs_at_a_time": pool.concurrency_limit, "done": "unchanged"}
    client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
    return {"name": name, "runs_at_a_time": limit, "done": "changed"}


def list_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """All deployments of the flow that builds datasets, by name."""
    ours = FlowFilter(name=FlowFilterName(any_=[BUILD_FLOW]))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(flow_filter=ours, sort=DeploymentSort.NAME_ASC, offset=len(found)):
        found += page
    return found


def _describe_deployment(
    client: SyncPrefectClient, scheduler: Scheduler, deployment: DeploymentResponse
) -> dict[str, Any]:
    """Its pool and when it comes next; None where it is paused or has no active schedule."""
    name = f"{BUILD_FLOW}/{deployment.name}"
    active = [] if deployment.paused else [each.schedule for each in deployment.schedules if each.active]
    for schedule in active:
        if isinstance(schedule, CronSchedule):
            try:
                read_cron(schedule.cron, schedule.timezone or "UTC")
            except RecipeError as error:
                raise RecipeError(
                    f"deployment {name}: {str(error).removeprefix('--')}; correct prefect.yaml and deploy again"
                ) from error
    due = await_next(client, scheduler, deployment) if active else None
    return {
        "name": name,
        "work_pool": deployment.work_pool_name,
        "next": due.isoformat() if due else None,
        "paused": deployment.paused,
    }


def watch_runs(within_s: float) -> AutomationCore:
    """The automation that marks runs of deployments as crashed when nothing is heard of them for `within_s` seconds.

    It waits after a run was claimed by a worker, was started or told that it lives, so no moment of a run is unwatched;
    any event of the run ends the waiting. A run by hand has no deployment, sends no heartbeats and is left alone.
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
    """Where several have the name, the first is ours."""
    found: list[Automation] = client.read_automations_by_name(DEAD_RUNS)
    if not found:
        wanted = DEAD_AFTER_S if within_s is None else within_s
        client.create_automation(watch_runs(wanted))
        return {"name": DEAD_RUNS, "dead_after_s": wanted, "enabled": True, "done": "made"}
    there = found[0]
    if not isinstance(there.trigger, EventTrigger):
        raise OrchestrationError(
            f"the automation {DEAD_RUNS!r} was changed to a trigger that this command does not know; delete it "
            "on the server's page, and give the command again"
        )
    now_s = int(there.trigger.within.total_seconds())
    if within_s is None or within_s == now_s:
        return {"name": DEAD_RUNS, "dead_after_s": now_s, "enabled": there.enabled, "done": "unchanged"}
    client.update_automation(there.id, watch_runs(within_s))
    return {"name": DEAD_RUNS, "dead_after_s": within_s, "enabled": True, "done": "changed"}


def describe_retention(server: dict[str, Any]) -> dict[str, float | None]:
    """Days that a server keeps runs and events, by its own settings; None: for ever."""
    vacuum = server["services"]["db_vacuum"]
    enabled = vacuum["enabled"]
    if isinstance(enabled, bool):  # the older way to say it
        enabled = ["events", "flow_runs"] if enabled else ["events"]
    kept = {"flow_runs": vacuum["retention_period"], "events": server["events"]["retention_period"]}
    days = {what: TypeAdapter(timedelta).validate_python(age) / DAY for what, age in kept.items()}
    return {f"{what}_days": age if what in (enabled or ()) else None for what, age in days.items()}
