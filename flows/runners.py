"""Task runners that a build may use; they are Prefect's own."""

import os

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner


def local_threads(workers: int | None = None) -> TaskRunner:  # type: ignore[type-arg]
    """Threads of this process, one a core by default: each stage runs torch on one thread (tasks/models)."""
    return ThreadPoolTaskRunner(max_workers=workers or os.cpu_count() or 1)


RUNNERS = {"threads": local_threads}
