"""What a build would do, without doing it: finished and missing work by stage, with time and bytes from receipts."""

from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from catalog.store import Store
from flows.chain import Drive, Tally
from flows.stages import Selected, augment_all, run_rounds, write_all
from flows.views import published_version
from schemas.jobs import BuildContext
from schemas.receipts import Receipt

STAGES = (
    "prompts", "aims", "seeds", "inversions", "samples", "masks", "verdicts", "selection", "augmented", "shard_plan",
    "shards",
)  # fmt: skip
SAMPLED_RECEIPTS = 50  # receipts read a stage for its cost a row; more would not change the estimate


@dataclass(frozen=True)
class StagePlan:
    """One stage of a plan. `seconds` and `bytes` are estimates for the missing rows; None where nothing is known."""

    stage: str
    finished: int
    missing: int
    missing_rows: int
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class Plan:
    """`complete`: every step is finished. `open_ended`: what comes after the missing steps cannot be known yet."""

    stages: list[StagePlan]
    complete: bool
    tally: Tally

    @property
    def open_ended(self) -> bool:
        return not self.complete

    def to_json(self) -> dict[str, Any]:
        return {"complete": self.complete, "stages": [asdict(stage) for stage in self.stages]}


def walk(drive: Drive, context: BuildContext) -> Selected | None:
    """Follow the chain to its end or to the first missing steps; what was selected if everything is finished."""
    selected = run_rounds(drive, context)
    partitions = None if selected is None else augment_all(drive, context, selected)
    if selected is None or partitions is None:
        return None
    return None if write_all(drive, context, partitions, selected.selection) is None else selected


def plan_build(context: BuildContext) -> Plan:
    """Dry run of a build against the receipts in its store."""
    store = Store.open(context.store)
    drive = Drive(store, submit=None)
    complete = walk(drive, context) is not None
    tally = drive.tally
    rows = tally.missing_rows["samples"]  # what is missing early is missing in every later stage
    plans = []
    for stage in STAGES:
        missing = tally.expected[stage] - tally.cached[stage]
        if not missing and not tally.cached[stage]:
            continue
        missing_rows = tally.missing_rows[stage] or (rows if missing else 0)
        seconds, size = estimate(store, stage, missing_rows)
        plans.append(StagePlan(stage, tally.cached[stage], missing, missing_rows, seconds, size))
    return Plan(plans, complete, tally)


def estimate(store: Store, stage: str, rows: int) -> tuple[float | None, int | None]:
    """Compute seconds and bytes of `rows` rows of a stage, at the mean cost of the receipts the store has of it."""
    seen: list[Receipt] = []
    for fingerprint in store.names(f"artifacts/{stage}")[:SAMPLED_RECEIPTS]:
        for name in store.names(f"artifacts/{stage}/{fingerprint}"):
            if name.endswith(".json") and not name.startswith("."):
                with suppress(ValueError, FileNotFoundError):  # another build may be writing or forgetting it
                    seen.append(Receipt.model_validate_json(store.read(f"artifacts/{stage}/{fingerprint}/{name}")))
    total = sum(receipt.rows for receipt in seen)
    if not total:
        return None, None
    seconds = sum(receipt.timings.get("compute", 0.0) for receipt in seen) / total * rows
    return round(seconds, 1), round(sum(map(count_bytes, seen)) / total * rows)


def count_bytes(receipt: Receipt) -> int:
    """Bytes of an artifact with its attachments."""
    return receipt.bytes + sum(int(file["bytes"]) for file in receipt.details.get("files", {}).values())


def build_status(context: BuildContext) -> dict[str, Any]:
    """How far a build is: stages, outcomes counted over its receipts (failures by cause), the published version."""
    plan = plan_build(context)
    receipts = [receipt for receipt in plan.tally.receipts if receipt.stage != "selection"]
    receipts += [receipt for receipt in plan.tally.receipts if receipt.stage == "selection"][
        -1:
    ]  # the last one says all
    outcomes: Counter[str] = Counter()
    rows = Counter[str]()
    for receipt in receipts:
        rows[receipt.stage] += receipt.rows
        if receipt.stage in ("samples", "selection"):
            outcomes.update({f"{receipt.stage} {name}": count for name, count in receipt.counts.items()})
    return {
        "recipe": context.recipe.name,
        "complete": plan.complete,
        "stages": [
            {"stage": s.stage, "finished": s.finished, "to_do": s.missing, "rows": rows[s.stage]} for s in plan.stages
        ],
        "outcomes": dict(sorted(outcomes.items())),
        "published": published_version(context.store, context.recipe.name),
    }
