"""Build a recipe and publish it as a version, in one Prefect flow."""

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from prefect import flow, get_run_logger

from tailforge.catalog.registry import DATASETS, load_dataset
from tailforge.catalog.store import Store
from tailforge.flows.build.choose import remember_build
from tailforge.flows.build.drive import Drive, Step, Tally
from tailforge.flows.build.prepare import get_prepared
from tailforge.flows.build.rounds import shortfall
from tailforge.flows.build.run_page import console_shows_logs, name_run, show_run
from tailforge.flows.build.selected import Selected
from tailforge.flows.build.spending import get_spending
from tailforge.flows.build.walk import walk
from tailforge.flows.runners.open import local_threads, mark_device
from tailforge.flows.server.access import BUILD_FLOW
from tailforge.flows.terminal.build_progress import open_progress
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.publish.publish import publish_version
from tailforge.tasks.stages.registry import generator_stages
from tailforge.tasks.stages.run import task_of

T = TypeVar("T")


@flow(
    name=BUILD_FLOW,
    flow_run_name=name_run,
    persist_result=False,
    task_runner=local_threads(os.cpu_count() or 1),
)
def build_dataset(
    recipe: str, store: str, overrides: Sequence[str] = (), window: int = 8, any_cost: bool = False
) -> dict[str, Any]:
    """Build and publish the dataset of a recipe. Finished partitions of earlier runs stay.

    `recipe`: a recipe's name or path; `store`: a folder or URI; `overrides`: `key.path=value` each; `window`: the
    partitions in progress at a time, more than the task runner's workers so that none waits; `any_cost`: rounds may
    cost more than `quality.round_limit`. Returns the publication (name, version, uri, counts) with the work by stage.
    Errors: UserError before any work; StoreError, EngineError, QuotaError, RoundLimitError and LimitReachedError, after
    which all finished work stays.
    """
    context = get_prepared(recipe, store, overrides)
    remember_build(context.store, context.recipe.name, recipe, overrides)
    started, log = time.perf_counter(), get_run_logger()

    # Make all artifacts.
    log.info(f"building {context.recipe.name} in {context.store}: {count_of(len(context.recipe.concepts), 'concept')}")
    with open_progress(log.info, shown_elsewhere=console_shows_logs()) as progress:
        drive = Drive(Store.open(context.store), partial(submit, context.store), window, progress, get_spending())
        built = require_finished(walk(drive, context, any_cost=any_cost))
        selected = built.selected

    # Publish them. The recipe of a steered build now requests what was spent.
    context = built.context
    published = publish_version(
        context.model_dump(mode="json"),
        selected.selection.model_dump(mode="json"),
        [partition.model_dump(mode="json") for partition in built.partitions],
        [shard.model_dump(mode="json") for shard in built.shards],
        selected.rounds,
        [receipt.model_dump(mode="json") for receipt in drive.tally.receipts],
        selected.unread,
    )

    made = describe_build(context, selected, published, drive.tally)
    made["wall_seconds"] = round(time.perf_counter() - started, 2)
    try:
        show_run(context.recipe, context.store, selected.accepted, made, log)
    except Exception:  # the version is published: an error of the page must not fail the run
        log.exception("the run's name, table and page could not be written")
    return made


def submit(store: str, step: Step) -> Any:
    """Submit a step to the flow's task runner and return its future."""
    stage = step.stage
    with mark_device(step):
        return task_of(stage.name).submit(stage.name, step.address.label, store, stage.write_given(step.given))


def require_finished(value: T | None) -> T:
    """Return a value that is None in dry runs only."""
    assert value is not None
    return value


def describe_build(
    context: BuildContext, selected: Selected, published: dict[str, Any], tally: Tally
) -> dict[str, Any]:
    """Return the outcome of a build, for output: version, counts, work and seconds by stage. Errors: StoreError."""
    location = f"{DATASETS}/{published['name']}/{published['version']}"
    store = Store.open(context.store)

    return {
        "name": published["name"],
        "version": published["version"],
        "new": published["is_new"],
        "samples": published["counts"]["samples"],
        "uri": store.address(location),
        "report": store.address(f"{location}/report/index.html"),
        **read_agreement(store, published["name"], published["version"]),
        **find_stale_repairs(context, selected),
        "rounds": len(selected.rounds),
        "shortfall": shortfall(context.recipe, selected.accepted),
        "unread_prompts": selected.unread,
        "work": dict(tally.missing),
        "finished_before": dict(tally.cached),
        **sum_seconds(tally.ran),
    }


def read_agreement(store: Store, name: str, version: str) -> dict[str, int]:
    """Return the number of a version's inverted images that the teacher agrees with; nothing for other engines.

    Errors: StoreError, VerificationError.
    """
    inversion = load_dataset(store, name, version).lineage.get("inversion", {})
    return {"teacher_agrees": inversion["agreed"]} if inversion else {}


def sum_seconds(receipts: Sequence[Receipt]) -> dict[str, float]:
    """Return the seconds of computing, of those with the generator, and of loading models."""
    alone = generator_stages()
    drawing = [receipt for receipt in receipts if receipt.stage in alone]
    cold = [receipt for receipt in receipts if receipt.effort and receipt.effort.cold]
    return {
        "compute_seconds": round(sum(receipt.timings.get("compute", 0.0) for receipt in receipts), 2),
        "drawing_seconds": round(sum(receipt.timings.get("compute", 0.0) for receipt in drawing), 2),
        "load_seconds": round(sum(receipt.timings.get("load", 0.0) for receipt in cold), 2),
    }


def find_stale_repairs(context: BuildContext, selected: Selected) -> dict[str, list[str]]:
    """Return the samples whose repair was not used, because their image changed or is missing."""
    taken = {partition.parent for partition in selected.partitions}
    stale = [repair.parent for repair in context.repairs if repair.parent not in taken]
    return {"stale_repairs": stale} if stale else {}
