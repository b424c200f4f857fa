"""Task runners that a build may use; they are Prefect's own."""

import os
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner


def local_threads(workers: int | None = None) -> TaskRunner[Any]:
    """Threads of this process, one a core by default; a generator renders one batch at a time (its lock)."""
    return ThreadPoolTaskRunner(max_workers=workers or os.cpu_count() or 1)
