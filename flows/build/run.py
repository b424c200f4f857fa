"""A build as the command runs it: what can be refused is refused before Prefect starts."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from tailforge.catalog.registry import latest_version, load_dataset
from tailforge.catalog.store import Store
from tailforge.flows.build.choose import remember_build
from tailforge.flows.build.drive import Drive
from tailforge.flows.build.prepare import hand_on, prepare_build
from tailforge.flows.build.walk import walk
from tailforge.flows.build_dataset import build_dataset, describe_build
from tailforge.flows.estimate.build_history import keep_pace
from tailforge.flows.estimate.forecast import hear_known
from tailforge.flows.runners.open import Workers, open_workers
from tailforge.flows.server.access import mark_stopped
from tailforge.flows.server.temporary import open_server
from tailforge.flows.terminal.heartbeat import say
from tailforge.flows.terminal.stopping import on_stop
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import OrchestrationError, VerificationError, WorkerLostError
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.settings.workers import WorkerSettings

MOST_LOST = 3


def run_build(
    recipe: str, store: str, overrides: Sequence[str], settings: WorkerSettings | None = None, *, any_cost: bool = False
) -> dict[str, Any]:
    """Build and publish; with `any_cost` no round is too large.

    Errors: as tailforge.flows.build_dataset.build_dataset and tailforge.flows.runners.open.open_workers.
    """
    context = prepare_build(recipe, store, overrides)  # the user's errors come before Prefect starts
    return run_prepared(context, recipe, overrides, settings, any_cost=any_cost)


def run_prepared(
    context: BuildContext,
    recipe: str,
    overrides: Sequence[str],
    settings: WorkerSettings | None = None,
    *,
    any_cost: bool = False,
) -> dict[str, Any]:
    """Build and publish what `prepare_build` made of a recipe. Errors: as run_build."""
    remember_build(context.store, context.recipe.name, recipe, overrides)
    if unchanged := find_unchanged(context):
        return unchanged
    hear_known(Store.open(context.store), context)
    settings, before = settings or WorkerSettings(), latest_version(Store.open(context.store), context.recipe.name)
    try:
        with open_server(), open_workers(settings, context) as workers:
            made = build_on(workers, context, recipe, overrides, any_cost)
            if settings.runner == "threads":
                keep_pace(Store.open(context.store), made, workers.count)
            return made
    except OrchestrationError as error:
        if (published := find_unchanged(context)) is None:
            raise
        say(f"the version is published, but the run's page may not say so: {error}")
        return published | {"new": published["version"] != before}


def build_on(
    workers: Workers, context: BuildContext, recipe: str, overrides: Sequence[str], any_cost: bool
) -> dict[str, Any]:
    """Build; where a worker died go on with fresh ones, to which what is finished stays finished.

    Errors: WorkerLostError if workers die `MOST_LOST` times in a row before anything more is finished.
    """
    runs: list[UUID] = []
    flow = build_dataset.with_options(
        task_runner=workers.runner, on_running=[lambda flow, run, state: runs.append(run.id)]
    )
    finished, lost = count_finished(context), 0
    while True:
        try:
            handed = hand_on(recipe, context.store, overrides, context)
            with handed, on_stop(lambda: mark_stopped(runs[-1:])):
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
                    "what ended them (memory: `dmesg`; the logs of Ray), then run the same command again"
                ) from error
            say(f"a worker died ({type(error).__name__}): going on, {count_of(finished, 'step')} finished")


def count_finished(context: BuildContext) -> int:
    """Steps of a build that are finished in its store."""
    drive = Drive(Store.open(context.store), submit=None)
    walk(drive, context)
    return drive.tally.cached.total()


def find_unchanged(context: BuildContext) -> dict[str, Any] | None:
    """What the build would say if all its work is finished and published; then nothing needs to start."""
    started, drive = time.perf_counter(), Drive(Store.open(context.store), submit=None)
    built = walk(drive, context)
    version = latest_version(drive.store, context.recipe.name)
    if built is None or version is None:
        return None
    with suppress(VerificationError):
        dataset = load_dataset(drive.store, context.recipe.name, version)
        made_of = {stage: set(values) for stage, values in dataset.lineage["fingerprints"].items()}
        finished: dict[str, set[str]] = {stage: set() for stage in made_of}
        for receipt in drive.tally.receipts:
            finished.get(receipt.stage, set()).add(receipt.fingerprint)
        chosen = built.selected.selection.sha256  # persons' decisions may change rejects alone, which no shard shows
        same_choice = dataset.lineage.get("selection", chosen) == chosen
        if made_of == finished and same_choice and dataset.recipe == context.recipe.model_dump(mode="json"):
            published = dataset.model_dump(mode="json") | {"is_new": False}
            made = describe_build(context, built.selected, published, drive.tally)
            return made | {"wall_seconds": round(time.perf_counter() - started, 2)}
    return None
