"""Run a build for the command line: prepare it before Prefect starts, and go on if a worker dies."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from tailforge.catalog.registry import latest_version, load_dataset
from tailforge.catalog.store import Store
from tailforge.flows.build.choose import remember_build
from tailforge.flows.build.drive import Drive
from tailforge.flows.build.note_licences import note_licences
from tailforge.flows.build.prepare import prepare_build, share_prepared
from tailforge.flows.build.spending import Spending, share_spending
from tailforge.flows.build.walk import BuildResult, walk
from tailforge.flows.build_dataset import build_dataset, describe_build
from tailforge.flows.estimate.build_history import keep_pace
from tailforge.flows.estimate.forecast import filter_known
from tailforge.flows.estimate.show import describe_left
from tailforge.flows.runners.open import Workers, open_workers
from tailforge.flows.server.access import mark_stopped
from tailforge.flows.server.temporary import open_server
from tailforge.flows.terminal.heartbeat import say
from tailforge.flows.terminal.stopping import on_stop
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import LimitReachedError, OrchestrationError, VerificationError, WorkerLostError
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.prices import Limits
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.workers import WorkerSettings
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.stages.samples import STAGE as SAMPLES

MOST_LOST = 3  # deaths of workers in a row without a finished step


def run_build(
    recipe: str,
    store: str,
    overrides: Sequence[str],
    settings: WorkerSettings | None = None,
    *,
    any_cost: bool = False,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Build and publish a recipe; return the outcome. With `any_cost` no round is too large.

    Errors: those of tailforge.flows.build_dataset.build_dataset and tailforge.flows.runners.open.open_workers.
    """
    context = prepare_build(recipe, store, overrides)  # raises the user's errors before Prefect starts
    if limits is None:
        return run_prepared(context, recipe, overrides, settings, any_cost=any_cost)

    before = engine_of(context.recipe).round
    try:
        with share_spending(Spending(limits, SAMPLES.name if before is None else before.stage)):
            return run_prepared(context, recipe, overrides, settings, any_cost=any_cost)
    except LimitReachedError as error:
        left = describe_left(context, limits.prices)
        raise LimitReachedError(f"stopped: {error}. Finished work is kept. {left}. The same command goes on") from error


def run_prepared(
    context: BuildContext,
    recipe: str,
    overrides: Sequence[str],
    settings: WorkerSettings | None = None,
    *,
    any_cost: bool = False,
) -> dict[str, Any]:
    """Build and publish a recipe with the context of `prepare_build`; return the outcome. Errors: as `run_build`."""
    remember_build(context.store, context.recipe.name, recipe, overrides)
    for note in note_licences(context):
        say(note)
    if unchanged := find_unchanged(context):
        return unchanged

    store, settings = Store.open(context.store), settings or WorkerSettings()
    filter_known(store, context)  # refuses a concept without readable prompts before Prefect starts
    before = latest_version(store, context.recipe.name)
    try:
        with open_server(), open_workers(settings, context) as workers:
            made = build_with_workers(workers, context, recipe, overrides, any_cost)
            if settings.runner == "threads":
                keep_pace(store, made, workers.count)
            return made
    except OrchestrationError as error:
        if (published := find_unchanged(context)) is None:
            raise
        say(f"the version is published, but the run's page may not say so: {error}")
        return published | {"new": published["version"] != before}


def build_with_workers(
    workers: Workers, context: BuildContext, recipe: str, overrides: Sequence[str], any_cost: bool
) -> dict[str, Any]:
    """Build and return the outcome. If a worker dies, go on with new ones; finished steps stay finished.

    Errors: WorkerLostError if workers die MOST_LOST times in a row without a finished step between; those of the flow.
    """
    runs: list[UUID] = []
    flow = build_dataset.with_options(
        task_runner=workers.runner, on_running=[lambda flow, run, state: runs.append(run.id)]
    )

    finished, lost = count_finished(context), 0
    while True:
        try:
            shared = share_prepared(recipe, context.store, overrides, context)
            with shared, on_stop(lambda: mark_stopped(runs[-1:])):
                result: dict[str, Any] = flow(
                    recipe, context.store, list(overrides), window=max(8, 2 * workers.count), any_cost=any_cost
                )
            return result
        except workers.lost as error:
            before, finished = finished, count_finished(context)
            lost = 1 if finished > before else lost + 1
            if lost == MOST_LOST:
                raise WorkerLostError(
                    f"worker processes died {lost} times in a row and finished nothing in between: {error}; look for "
                    "the cause (memory: `dmesg`; the logs of Ray), then run the same command again"
                ) from error
            say(f"a worker died ({type(error).__name__}): going on, {count_of(finished, 'step')} finished")


def count_finished(context: BuildContext) -> int:
    """Return the number of a build's finished steps in its store."""
    drive = Drive(Store.open(context.store), submit=None)
    walk(drive, context)
    return drive.tally.cached.total()


def find_unchanged(context: BuildContext) -> dict[str, Any] | None:
    """Return the outcome of a build if all its work is finished and published; else None."""
    started, drive = time.perf_counter(), Drive(Store.open(context.store), submit=None)
    built = walk(drive, context)
    version = latest_version(drive.store, context.recipe.name)
    if built is None or version is None:
        return None

    context = built.context  # with an adapted generator, and the images that a steered build spent
    with suppress(VerificationError):
        dataset = load_dataset(drive.store, context.recipe.name, version)
        if is_result(dataset, context, built, drive.tally.receipts):
            published = dataset.model_dump(mode="json") | {"is_new": False}
            made = describe_build(context, built.selected, published, drive.tally)
            return made | {"wall_seconds": round(time.perf_counter() - started, 2)}
    return None


def is_result(dataset: Dataset, context: BuildContext, built: BuildResult, receipts: Sequence[Receipt]) -> bool:
    """Return whether a version has the recipe, the artifacts and the selection of a finished build."""
    lineage = {stage: set(values) for stage, values in dataset.lineage["fingerprints"].items()}
    finished: dict[str, set[str]] = {stage: set() for stage in lineage}
    for receipt in receipts:
        finished.get(receipt.stage, set()).add(receipt.fingerprint)

    # A review may change only the rejects, which no shard holds, so the selection counts as well.
    selection = built.selected.selection.sha256
    same_selection = dataset.lineage.get("selection", selection) == selection
    return lineage == finished and same_selection and dataset.recipe == context.recipe.model_dump(mode="json")
