"""Run a stage as a Prefect task."""

from functools import cache
from typing import Any

from prefect import Task, task

from tailforge.catalog.store import Store
from tailforge.tasks.stages.registry import find_stage
from tailforge.tasks.stages.retry_rule import STAGE_TASK


@task(task_run_name="{stage}: {label}", **STAGE_TASK)
def run_stage(stage: str, label: str, store: str, given: str) -> dict[str, Any]:
    """Make one result of a stage and return its receipt as JSON.

    `label`: the result's name in Prefect's pages; `given`: the JSON of `Stage.write_given`. Errors: those of the stage.
    """
    found = find_stage(stage)
    return found.make(Store.open(store), *found.read_given(given)).model_dump(mode="json")


@cache
def task_of(stage: str) -> Task[..., Any]:
    """Return the task of a stage, with the stage's name."""
    return run_stage.with_options(name=stage)
