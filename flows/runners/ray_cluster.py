"""Workers on a running Ray cluster, on Prefect's RayTaskRunner.

This module joins the cluster, since the task runner would start a local Ray where none answers. Before any work it
checks on every node: the store, the models, the Prefect server and equal libraries.
"""

import logging
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tailforge.catalog.store import Store
from tailforge.catalog.temporaries import TEMPORARY
from tailforge.flows.runners.open import NEEDS_DEVICE, Workers
from tailforge.flows.server.access import API, ask_health
from tailforge.flows.server.local_prefect import EXCEPTIONS
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import OrchestrationError, StoreAccessError, TailforgeError, UserError
from tailforge.schemas.jobs import BuildContext, ResolvedLora, ResolvedModel
from tailforge.schemas.settings.workers import WorkerSettings
from tailforge.tasks.artifacts.contract import library_versions

ANSWERS_S = 10.0
PROBE_S = 120.0  # a node's first process imports torch
# Ray retries a step three times on other workers before it raises one of these.
LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
)
# With num_gpus alone Ray ends a worker, and drops its model, after each step: max_calls=0 keeps the worker. A separate
# environment reserves these workers for GPU steps: otherwise a second process may load the model on the same device.
ON_GPU = {"num_gpus": 1, "num_cpus": 1, "max_calls": 0, "runtime_env": {"env_vars": {"TAILFORGE_ON": "gpu"}}}
ON_CPU = {"num_cpus": 1}


class ClusterRunner(RayTaskRunner):  # type: ignore[misc]
    """Prefect's runner with the resources per step: a GPU and a core, or a core in clusters without GPUs."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        self.has_gpus = "GPU" in ray.cluster_resources()
        return entered

    def submit(self, *arguments: Any, **named: Any) -> Any:
        """Submit a task with the resources that it needs."""
        with remote_options(**(ON_GPU if NEEDS_DEVICE.get() and self.has_gpus else ON_CPU)):
            return super().submit(*arguments, **named)


@contextmanager
def join_cluster(settings: WorkerSettings, context: BuildContext) -> Iterator[Workers]:
    """Yield workers on all nodes of the cluster at the given address.

    Errors: UserError without an address; OrchestrationError if no cluster or Prefect server answers or nodes lack
    something; StoreAccessError if a node does not see the store.
    """
    address = settings.ray_address
    if not address or "://" in address or not address.rpartition(":")[2].isdigit():
        raise UserError(
            f"--ray-address {address or 'is missing'}: give host:port of the head of a cluster that this machine is "
            "part of (`ray start --address host:port`), by the option or RAY_ADDRESS"
        )

    server = os.environ.get(API)
    if not server:
        raise OrchestrationError(
            "workers on Ray need a Prefect server that every node reaches: start one by `prefect server start --host "
            f"0.0.0.0` and set {API}=http://HOST:4200/api"
        )

    connect(address)
    try:
        require_nodes(context, server)
        found = ray.cluster_resources()
        count = int(found.get("GPU") or found.get("CPU") or 0)
        yield Workers(ClusterRunner(address), min(count, settings.workers or count), LOST)
    finally:
        ray.shutdown()


def connect(address: str) -> None:
    """Join the cluster; never start one. Errors: OrchestrationError."""
    host, _, port = address.rpartition(":")
    # Workers inherit the environment of `ray start`, whose proxy exceptions may lack this machine.
    spared = {name: os.environ[name] for name in EXCEPTIONS if name in os.environ}
    try:
        socket.create_connection((host, int(port)), ANSWERS_S).close()  # Ray itself retries for ten minutes or more
        ray.init(
            address=address,
            runtime_env={"env_vars": spared},
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise OrchestrationError(
            f"no Ray cluster can be joined at {address}: {describe_failure(error)}; start one by `ray start --head` "
            "and `ray start --address`, also on this machine, and check the address"
        ) from error


def require_nodes(context: BuildContext, server: str) -> None:
    """Check every node that can work. Errors: OrchestrationError, StoreAccessError naming the node."""
    nodes = [node for node in ray.nodes() if node["Alive"] and {"CPU", "GPU"} & set(node["Resources"])]
    if not nodes:
        raise OrchestrationError(
            "the Ray cluster has no node with processors or GPUs; add one by `ray start --address`"
        )

    store, token = Store.open(context.store), uuid.uuid4().hex
    probe = f"{TEMPORARY}nodes-{token}"
    located: list[ResolvedModel | ResolvedLora] = list(context.models.values())
    located += [lora for model in context.models.values() for lora in model.loras]
    folders = [part.path for part in located if part.revision is None]

    store.write_bytes(probe, token.encode())
    try:
        asked = [ask(node["NodeID"], context.store, probe, folders, server) for node in nodes]
        for node, answer in zip(nodes, asked, strict=True):
            accept(node["NodeManagerAddress"], answer, token, context.store)
    finally:
        store.remove(probe)


def ask(node: str, store: str, probe: str, folders: Sequence[str], server: str) -> Any:
    """Start `look_around` on a node."""
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(look_around).options(num_cpus=0, scheduling_strategy=there).remote(store, probe, folders, server)


def look_around(store: str, probe: str, folders: Sequence[str], server: str) -> dict[str, Any]:
    """Return the state of a node: content of the store's file `probe`, missing models, server failure and libraries."""
    try:
        seen = Store.open(store).read(probe).decode()
    except (OSError, TailforgeError) as error:
        seen = f"{type(error).__name__}: {error}"
    failure = ask_health(server)
    health = failure and f"{type(failure).__name__}: {failure}"
    missing = [folder for folder in folders if not Path(folder).is_dir()]
    return {"store": seen, "server": health, "missing": missing, "versions": library_versions()}


def accept(node: str, answer: Any, token: str, store: str) -> None:
    """Check the answer of a node. Errors: OrchestrationError, StoreAccessError if the node cannot take part."""
    try:
        found = ray.get(answer, timeout=PROBE_S)
    except (ray.exceptions.RayError, ModuleNotFoundError) as error:
        raise OrchestrationError(
            f"node {node} cannot run Tailforge: {error}; install the same release there, with extras build and ray"
        ) from error
    judge_node(node, found, token, store)


def judge_node(node: str, found: dict[str, Any], token: str, store: str) -> None:
    """Compare the state of a node with the needs of a build. Errors: OrchestrationError, StoreAccessError."""
    if found["store"] != token:
        raise StoreAccessError(
            f"node {node} does not see the store {store} ({found['store']}); give a folder that all nodes share under "
            "one path, or an object store"
        )

    if found["missing"]:
        raise OrchestrationError(f"node {node} lacks {', '.join(found['missing'])}; copy or mount these models there")
    if found["server"]:
        raise OrchestrationError(
            f"node {node} does not reach the Prefect server ({found['server']}); set {API} to an address for all nodes"
        )

    own, other = library_versions(), found["versions"]
    if differing := [f"{name} {other.get(name)} (here {own[name]})" for name in own if other.get(name) != own[name]]:
        raise OrchestrationError(
            f"node {node} has other libraries: {', '.join(differing)}; install the same there, or images would differ"
        )
