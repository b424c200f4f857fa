"""A build as the command runs it: refuse early, do nothing when nothing is to do, else run the flow."""

import os
from collections.abc import Sequence
from typing import Any

from catalog.store import Store
from flows.build_dataset import build_dataset
from flows.chain import Drive
from flows.embedded import stop_orphaned_servers
from flows.plan_build import STAGES, walk
from flows.prepare_build import prepare_build
from flows.runners import local_threads
from schemas.errors import NotFoundError


def run_build(recipe: str, store: str, overrides: Sequence[str], workers: int | None) -> dict[str, Any]:
    """Build and publish. Errors: as flows.build_dataset.build_dataset."""
    prepare_build(recipe, store, overrides)  # the user's errors come before Prefect starts
    if not os.environ.get("PREFECT_API_URL"):
        stop_orphaned_servers()
    flow = build_dataset.with_options(task_runner=local_threads(workers))
    result: dict[str, Any] = flow(recipe, store, list(overrides))
    return result


def forget_stage(recipe: str, store: str, stage: str, overrides: Sequence[str]) -> int:
    """Remove the finished results of one stage of a recipe's build, so that the next build does them again.

    Returns how many were removed. Errors: NotFoundError for an unknown stage.
    """
    if stage not in STAGES:
        raise NotFoundError(f"stage {stage!r} does not exist; the stages are: {', '.join(STAGES)}")
    context = prepare_build(recipe, store, overrides)
    drive = Drive(Store.open(context.store), submit=None)
    walk(drive, context)
    receipts = [receipt for receipt in drive.tally.receipts if receipt.stage == stage]
    for receipt in receipts:  # the receipt first: without it the file is nothing
        drive.store.remove(receipt.uri.rsplit(".", 1)[0] + ".json")
        drive.store.remove(receipt.uri)
    return len(receipts)
