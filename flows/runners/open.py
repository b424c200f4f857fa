"""What a build's steps run on: Prefect's own task runners, opened as a person asks for them."""

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

# Whether the step that is being submitted runs a model. What does so names its models in its address, so the rule needs
# no list of stages: masks cut from recorded maps need no device, masks by a model do.
NEEDS_DEVICE: ContextVar[bool] = ContextVar("needs_device", default=False)


@dataclass(frozen=True)
class Workers:
    """A task runner, how many steps it runs at a time, and the errors by which it tells that a worker died."""

    runner: TaskRunner[Any]
    count: int
    lost: tuple[type[Exception], ...] = ()


def local_threads(workers: int) -> TaskRunner[Any]:
    """Threads of this process; a generator renders one batch at a time (its lock), other stages overlap with it."""
    return ThreadPoolTaskRunner(max_workers=workers)


@contextmanager
def mark_device(step: Step) -> Iterator[None]:
    """While a step is submitted: does it need a device?"""
    mark = NEEDS_DEVICE.set(bool(step.address.models))
    try:
        yield
    finally:
        NEEDS_DEVICE.reset(mark)


@contextmanager
def open_workers(settings: WorkerSettings, context: BuildContext) -> Iterator[Workers]:
    """The workers of a build, as long as it lasts.

    Errors: UserError for options that do not go together; DeviceError; what flows/runners/ray_cluster.py refuses.
    """
    if settings.devices and settings.runner != "processes":
        raise UserError(f"--devices goes with --runner processes, not with {settings.runner}; leave one of them out")
    if settings.runner == "threads":
        count = settings.workers or os.cpu_count() or 1
        yield Workers(local_threads(count), count)
    elif settings.runner == "processes":
        purpose = f"build {context.recipe.name} in {context.store}"
        with lease_devices(settings.devices, settings.workers, purpose) as devices:
            resource_tracker.ensure_running()  # now: it unblocks ctrl-C when it starts
            shield_children()
            runner = ProcessPoolTaskRunner(len(devices), initializer=start_worker, initargs=(devices,))
            yield Workers(runner, len(devices), (BrokenExecutor,))
    else:
        from tailforge.flows.runners.ray_cluster import join_cluster  # an extra that other builds do without

        with join_cluster(settings, context) as workers:
            yield workers
