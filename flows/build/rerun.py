"""Make a part of a build again: a stage, some partitions or the failed samples. The rest stays unchanged."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from tailforge.catalog.store import Store
from tailforge.flows.build.choose import choose_build
from tailforge.flows.build.drive import Drive, Tally
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.status import failed_receipts
from tailforge.flows.build.walk import walk
from tailforge.schemas.errors import NotFoundError, UserError
from tailforge.schemas.extras import when_called
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.workers import WorkerSettings
from tailforge.tasks.artifacts.failures import forget, retry_failed_rows
from tailforge.tasks.stages.registry import list_stages, stage_names

NEAR_LABELS = 5
run_prepared = when_called("flows.build.run", "run_prepared")


def rerun_build(
    recipe: str,
    store: str,
    overrides: Sequence[str],
    stage: str | None,
    labels: Sequence[str],
    *,
    failed: bool,
    settings: WorkerSettings | None = None,
    any_cost: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Remove a stage's results, some partitions or the failed samples, and build again.

    Return the result of the build with `again`, the number of removed partitions. With `dry_run` change nothing and
    return what would be removed: `again`, and `parts`, the stage and label of each. `recipe` may be a dataset. Without
    overrides those of the last build apply, and `told` names them. If no sample failed, `failed` builds nothing, and
    `nothing` says so. Errors: NotFoundError for an unknown stage or partition; UserError for missing or conflicting
    options; those of `run_prepared`.
    """
    require_part(stage, labels, failed=failed)
    chosen = choose_build(recipe, store, overrides, last=True)
    context = prepare_build(chosen.reference, store, chosen.overrides)
    drive = Drive(Store.open(context.store), submit=None)
    complete = walk(drive, context) is not None

    # Find the results to make again.
    require_known(drive.tally, labels)
    named = [receipt for receipt in drive.tally.receipts if not labels or receipt.label in labels]
    again = failed_receipts(named) if failed else select_stages(named, stage, follow=bool(labels))
    told = {"told": chosen.told} if chosen.told else {}
    if failed and not again:
        rest = "" if complete else "; the build is not finished, `tailforge build` goes on with it"
        return {"again": 0, "nothing": f"no sample failed, nothing to do{rest}", "work": {}, **told}

    if dry_run:
        parts = [{"stage": receipt.stage, "partition": receipt.label} for receipt in again]
        return {"again": len(again), "parts": parts, **told}

    # Remove them, or only their failed rows, and build.
    kept = {stage.name for stage in list_stages() if stage.keeps_rows}
    for receipt in again:
        (retry_failed_rows if failed and receipt.stage in kept else forget)(drive.store, receipt)
    made = run_prepared(context, chosen.reference, chosen.overrides, settings, any_cost=any_cost)
    return {**made, "again": len(again), **told}


def require_part(stage: str | None, labels: Sequence[str], *, failed: bool) -> None:
    """Refuse options that name no part of a build. Errors: UserError; NotFoundError for an unknown stage."""
    if stage is None and not labels and not failed:
        raise UserError(
            "name what to make again by --stage, --partition or --failed-samples; `tailforge status` lists them"
        )
    if failed and stage is not None:
        raise UserError("--failed-samples makes images again and takes no --stage; leave one of them out")
    if stage is not None and stage not in stage_names():
        raise NotFoundError(f"stage {stage!r} does not exist; the stages are: {', '.join(stage_names())}")


def require_known(tally: Tally, labels: Sequence[str]) -> None:
    """Refuse labels that no partition of the build has. Errors: NotFoundError with similar labels."""
    known = {receipt.label for receipt in tally.receipts} | {address.label for address in tally.open}
    for label in labels:
        if label not in known:
            near = get_close_matches(label, sorted(known), NEAR_LABELS, cutoff=0.3) or sorted(known)[:NEAR_LABELS]
            listed = ", ".join(f'"{each}"' for each in near)
            raise NotFoundError(f"no partition is called {label!r}; similar: {listed or 'none, nothing was made yet'}")


def select_stages(receipts: Sequence[Receipt], stage: str | None, *, follow: bool) -> list[Receipt]:
    """Return the receipts of one stage, with `follow` also those of later stages; of all stages without a stage."""
    names = stage_names()
    known = [receipt for receipt in receipts if receipt.stage in names]
    if stage is None:
        return known

    first = names.index(stage)
    last = len(names) if follow else first + 1
    return [receipt for receipt in known if first <= names.index(receipt.stage) < last]
