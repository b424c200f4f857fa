"""What a build would do, without doing it: finished and missing work by stage, with time and bytes from receipts.

The walk through the chain ends at the first missing steps. What the first round holds beyond them follows from the
recipe and its prompts, which templates give without any work that is worth keeping; so it is counted all the same.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from catalog.store import Store
from flows.chain import Drive, Tally
from flows.forecast import Forecast, forecast_build
from flows.stages import Selected, augment_all, run_rounds, write_all
from schemas.jobs import BuildContext
from schemas.receipts import Receipt
from tasks.methods.draw_report import show_seconds
from tasks.render_report import STAGES

PLAN_COLUMNS = ("stage", "partitions finished", "to do", "rows to do", "time", "size")
SAMPLED_RECEIPTS = 50  # receipts read a stage for its cost a row; more would not change the estimate


@dataclass(frozen=True)
class StagePlan:
    """One stage of a plan: partitions, rows and costs.

    `seconds` and `bytes` are estimates for the missing rows; None where nothing is known.
    """

    stage: str
    finished: int
    missing: int
    missing_rows: int
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class Plan:
    """`complete`: every step is finished. `wanted`: accepted images; `images`: those that the first round makes.

    `finished_images` may count those of further rounds.
    """

    stages: list[StagePlan]
    complete: bool
    tally: Tally
    concepts: int
    wanted: int
    images: int
    finished_images: int

    def to_json(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("concepts", "wanted", "images", "finished_images")}
        return {"complete": self.complete, **counts, "stages": [asdict(stage) for stage in self.stages]}

    def list_rows(self) -> list[list[str]]:
        """The stages as cells under PLAN_COLUMNS, for a person."""
        return [
            [s.stage, str(s.finished), str(s.missing), str(s.missing_rows or ""), _show_time(s), _show_size(s)]
            for s in self.stages
        ]

    def describe(self) -> str:
        """What the build comes to, for a person."""
        wanted = f"{_count(self.wanted, 'image')} of {_count(self.concepts, 'concept')} wanted"
        made = f"the first round makes {self.images:,}; {self.finished_images:,} finished"
        if self.complete:
            return f"{wanted}; everything is finished"
        known = sum(stage.seconds or 0 for stage in self.stages)
        unknown = [stage.stage for stage in self.stages if stage.missing and stage.seconds is None]
        times = [f"about {_show_duration(known)} of computing, by what this store's partitions took"] if known else []
        times += [f"no time is known of {', '.join(unknown)}"] if unknown else []
        lines = [f"{wanted}; {made}", "; ".join(times), "further rounds and shards follow from the verdicts"]
        return "\n".join(line for line in lines if line)


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
    tally, ahead = drive.tally, forecast_build(store, context)
    stages = [_plan_stage(store, stage, tally, ahead) for stage in STAGES]
    return Plan(
        stages=[stage for stage in stages if stage.finished or stage.missing],
        complete=complete,
        tally=tally,
        concepts=len(context.recipe.concepts),
        wanted=sum(concept.wanted for concept in context.recipe.concepts),
        images=ahead.images,
        finished_images=sum(receipt.rows for receipt in tally.receipts if receipt.stage == "samples"),
    )


def _plan_stage(store: Store, stage: str, tally: Tally, ahead: Forecast) -> StagePlan:
    """As the walk met it; as the forecast has it where the walk did not come so far."""
    finished = tally.cached[stage]
    reached = stage in tally.expected
    missing = tally.expected[stage] - finished if reached else ahead.steps.get(stage, 0)
    rows = tally.missing_rows[stage] if reached else ahead.rows.get(stage, 0)
    if missing and not rows:
        # What is missing early is missing in every later stage.
        rows = tally.missing_rows["samples"] if "samples" in tally.expected else ahead.rows.get(stage, 0)
    return StagePlan(stage, finished, missing, rows, *estimate(store, stage, rows))


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


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


def _show_time(stage: StagePlan) -> str:
    return "" if stage.seconds is None or not stage.missing else _show_duration(stage.seconds)


def _show_duration(seconds: float) -> str:
    return "under 1 s" if seconds < 1 else show_seconds(round(seconds))  # an estimate has no tenths


def _show_size(stage: StagePlan) -> str:
    if stage.bytes is None or not stage.missing:
        return ""
    return f"{stage.bytes / 1000:.0f} kB" if stage.bytes < 1_000_000 else f"{stage.bytes / 1_000_000:.1f} MB"
