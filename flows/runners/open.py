"""Open the workers of a build: Prefect's own task runners, chosen by the user's options."""

import os
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from tailforge.flows.build.drive import Step
from tailforge.flows.runners.device_leases import lease_devices
from tailforge.flows.runners.processes import start_worker
from tailforge.flows.terminal.stopping import shield_children
from tailforge.schemas.errors import UserError
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.settings.workers import WorkerSettings

# Whether the submitted step runs a model. Such a step names its models in its address, so no list of stages is needed:
# masks cut from recorded maps need no device, masks by a model do.
NEEDS_DEVICE: ContextVar[bool] = ContextVar("needs_device", default=False)


@dataclass(frozen=True)
class Workers:
    """A task runner, its number of parallel steps, and the errors that mean a worker died."""

    runner: TaskRunner[Any]
    count: int
    lost: tuple[type[Exception], ...] = ()


def local_threads(workers: int) -> TaskRunner[Any]:
    """Return threads of this process. One generator renders one batch at a time; other stages run beside it."""
    return ThreadPoolTaskRunner(max_workers=workers)


@contextmanager
def mark_device(step: Step) -> Iterator[None]:
    """Note, while a step is submitted, whether it needs a device."""
    mark = NEEDS_DEVICE.set(bool(step.address.models))
    try:
        yield
    finally:
        NEEDS_DEVICE.reset(mark)


@contextmanager
def open_workers(settings: WorkerSettings, context: BuildContext) -> Iterator[Workers]:
    """Yield the workers of a build for its duration.

    Errors: UserError for conflicting options; DeviceError; errors of flows/runners/ray_cluster.py.
    """
    if settings.devices and settings.runner != "processes":
        raise UserError(f"--devices needs --runner processes, not {settings.runner}; leave one of them out")

    if settings.runner == "threads":
        count = settings.workers or os.cpu_count() or 1
        yield Workers(local_threads(count), count)
    elif settings.runner == "processes":
        purpose = f"build {context.recipe.name} in {context.store}"
        with lease_devices(settings.devices, settings.workers, purpose) as devices:
            resource_tracker.ensure_running()  # start it first: its start unblocks ctrl-C
            shield_children()
            runner = ProcessPoolTaskRunner(len(devices), initializer=start_worker, initargs=(devices,))
            yield Workers(runner, len(devices), (BrokenExecutor,))
    else:
        from tailforge.flows.runners.ray_cluster import join_cluster  # an optional extra

        with join_cluster(settings, context) as workers:
            yield workers
