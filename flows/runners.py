"""Task runners that a build may use; they are Prefect's own."""

from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner


def local_threads(workers: int) -> TaskRunner[Any]:
    """Threads of this process; a generator renders one batch at a time (its lock), other stages overlap with it."""
    return ThreadPoolTaskRunner(max_workers=workers)
