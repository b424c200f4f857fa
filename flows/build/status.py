"""Describe the progress and the failures of a build, from receipts and recorded errors."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tailforge.catalog.store import Store
from tailforge.flows.build.choose import choose_build
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.queries import published_version, tell_worth
from tailforge.flows.build.walk import plan_build
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Address
from tailforge.tasks.artifacts.failures import LABEL, read_failure
from tailforge.tasks.report.losses import choose_advice, name_cause
from tailforge.tasks.stages.registry import list_stages
from tailforge.tasks.stages.samples import STAGE as SAMPLES
from tailforge.tasks.stages.selection import STAGE as SELECTION

FAILED = "status:failed"
ERROR = "error:"
FIX_CODE = "fix the code, then build again: everything upstream is kept"
FOLLOW_MESSAGE = "do what the message says, then build again: everything upstream is kept"


def status_view(reference: str, store: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return `build_status` of a recipe or dataset. Without overrides those of the last build apply.

    `told` names them; it is empty without any. Errors: those of `choose_build` and `prepare_build`.
    """
    chosen = choose_build(reference, store, overrides, last=True)
    found = build_status(prepare_build(chosen.reference, store, chosen.overrides))
    return {**found, "overrides": list(chosen.overrides), "told": chosen.told}


def build_status(context: BuildContext) -> dict[str, Any]:
    """Return stages, outcomes, unfinished partitions, failures by cause with advice, and the published version.

    `evaluated`: the verdict of that version's newest evaluation, or that there is none. Errors: StoreError;
    VerificationError for a damaged record of an evaluation.
    """
    plan = plan_build(context)
    receipts = [receipt for receipt in plan.tally.receipts if receipt.stage != SELECTION.name]
    receipts += [r for r in plan.tally.receipts if r.stage == SELECTION.name][-1:]  # the last one covers all rounds
    rows = Counter[str]()
    for receipt in receipts:
        rows[receipt.stage] += receipt.rows

    store, name = Store.open(context.store), context.recipe.name
    partitions = _list_partitions(store, plan.tally.open, receipts)
    published = published_version(context.store, name)
    return {
        "recipe": context.recipe.name,
        "complete": plan.complete,
        "stages": [
            {"stage": s.stage, "finished": s.finished, "to_do": s.missing, "rows": rows[s.stage]} for s in plan.stages
        ],
        "outcomes": _count_outcomes(receipts),
        "partitions": partitions,
        "failures": _group_causes(partitions),
        "published": published,
        "evaluated": tell_worth(store, name, published) if published else None,
    }


def _count_outcomes(receipts: list[Receipt]) -> dict[str, int]:
    """Return the counts of samples and of the selection by outcome, sorted by name."""
    outcomes: Counter[str] = Counter()
    for receipt in receipts:
        if receipt.stage in (SAMPLES.name, SELECTION.name):
            outcomes.update({f"{receipt.stage} {name}": count for name, count in receipt.counts.items()})
    return dict(sorted(outcomes.items()))


def failed_receipts(receipts: list[Receipt]) -> list[Receipt]:
    """Return the receipts of partitions with a failed image."""
    makers = _image_makers()
    return [receipt for receipt in receipts if receipt.stage in makers and receipt.counts.get(FAILED)]


def _image_makers() -> set[str]:
    """Return the names of the stages in which a failed row is a failed image."""
    return {stage.name for stage in list_stages() if stage.makes_images}


def _list_partitions(store: Store, missing: list[Address], receipts: list[Receipt]) -> list[dict[str, Any]]:
    """Return a row per partition that is missing or holds failed samples, with its first missing or failed stage."""
    found = []
    for address in missing:
        failure = read_failure(store, address)
        causes = {f"{failure.error} ({failure.where})": 1} if failure else {}
        advice = (FOLLOW_MESSAGE if failure.own else FIX_CODE) if failure else None
        found.append(_describe(address.label, address.stage.name, "failed" if failure else "missing", causes, advice))
    for receipt in failed_receipts(receipts):
        counts = receipt.counts.items()
        causes = {name.removeprefix(ERROR): count for name, count in counts if name.startswith(ERROR)}
        found.append(_describe(receipt.label, receipt.stage, "failed samples", causes, None))
    return found


def _describe(label: str, stage: str, state: str, causes: dict[str, int], advice: str | None) -> dict[str, Any]:
    """Return the row of one partition, with the parts of its label."""
    named = LABEL.match(label)
    parts: dict[str, Any] = named.groupdict() if named else dict.fromkeys(("concept", "round", "source", "part"))
    numbers = {name: None if parts[name] is None else int(parts[name]) for name in ("round", "part")}
    return {"partition": label, "stage": stage, "state": state, **parts, **numbers, "causes": causes, "mend": advice}


def _group_causes(partitions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the failures by cause, the most frequent first. A cause is an error's text without any names."""
    makers = _image_makers()
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for partition in partitions:
        for text, count in partition["causes"].items():
            cause = name_cause(text, partition["partition"])
            advice = partition["mend"] or choose_advice(partition["stage"], cause, draws=partition["stage"] in makers)
            fresh = {"stage": partition["stage"], "cause": cause, "count": 0, "partitions": 0, "mend": advice}
            group = groups.setdefault((partition["stage"], cause), fresh)
            group["count"] += count
            group["partitions"] += 1
    return sorted(groups.values(), key=lambda group: -group["count"])
