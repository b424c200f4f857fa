"""Open the samples of an unpublished or running build, so that a person may decide during the build."""

from collections.abc import Iterator, Sequence
from typing import Any

from tailforge.catalog.store import Store
from tailforge.flows.build.choose import choose_build
from tailforge.flows.build.drive import Drive
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.walk import walk
from tailforge.flows.samples.review import DRAWN, SHOWN, ReviewedSamples, require_decisions, stuff_values
from tailforge.schemas.errors import NotFoundError
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.gates import GATES
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.stages.masks import STAGE as MASKS
from tailforge.tasks.stages.selection import STAGE as SELECTION
from tailforge.tasks.stages.verdicts import STAGE as VERDICTS

# Columns per stage that describe a sample; later stages come last.
SCORED = {
    stage.name: [name for name in ("reason", "split", *GATES) if name in stage.schema.names]
    for stage in (MASKS, VERDICTS, SELECTION)
}


def open_build(recipe: str, uri: str, overrides: Sequence[str] = ()) -> ReviewedSamples:
    """Return all samples that a build, by default the last one, has drawn so far.

    Errors: UserError; NotFoundError if nothing is drawn.
    """
    chosen = choose_build(recipe, uri, overrides, last=True)
    context = prepare_build(chosen.reference, uri, chosen.overrides)
    store, name = Store.open(context.store), context.recipe.name
    require_decisions(store, name)
    drive = Drive(store, submit=None)
    walk(drive, context)

    receipts = [receipt for receipt in drive.tally.receipts if receipt.stage in (*DRAWN, *SCORED)]
    rows = {row["sample_id"]: row for receipt in receipts for row in _list_drawn(store, receipt)}
    if not rows:
        raise NotFoundError(f"nothing of {name} is drawn yet; begin by `tailforge build {recipe}`")
    judged = _add_scores(store, rows, receipts)

    return ReviewedSamples(
        store=store,
        dataset=name,
        label=f"{name}, unfinished build",
        rows=rows,
        stuff=stuff_values(context.recipe.categories),
        artifacts={stage: [each.uri for each in receipts if each.stage == stage] for stage in (*DRAWN, MASKS.name)},
        unjudged=rows.keys() - judged,
    )


def _list_drawn(store: Store, receipt: Receipt) -> Iterator[dict[str, Any]]:
    if receipt.stage in DRAWN:
        table = read_table(store, receipt, ["sample_id", "concept", "prompt", "status"])
        for row in table.to_pylist():
            if row["status"] != "failed":
                yield dict.fromkeys(SHOWN) | row | {"caption": row["prompt"]}


def _add_scores(store: Store, rows: dict[str, dict[str, Any]], receipts: Sequence[Receipt]) -> set[str]:
    """Write the scores of later stages into `rows`; return the ids of samples with a verdict."""
    judged: set[str] = set()
    for stage, columns in SCORED.items():
        for receipt in (each for each in receipts if each.stage == stage):
            found = read_table(store, receipt, ["sample_id", *columns]).to_pylist()
            scored = {row["sample_id"]: row for row in found if row["sample_id"] in rows}
            for sample_id, row in scored.items():
                rows[sample_id].update({name: row[name] for name in row if row[name] is not None or name == "reason"})
            if stage == VERDICTS.name:
                judged |= scored.keys()
    return judged
