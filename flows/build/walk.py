"""What a build would do, without doing it: finished and missing work by stage. What it costs: flows/estimate/cost.py.

The walk through the chain ends at the first missing steps. What the first round holds beyond them follows from the
recipe and its prompts, which templates give without any work that is worth keeping; so it is counted all the same.
"""

from dataclasses import dataclass, field

from tailforge.catalog.store import Store
from tailforge.flows.build.drive import Drive, Tally
from tailforge.flows.build.order import PARTITION, augment_all, partition_chain, write_all
from tailforge.flows.build.plan_partitions import plan_partitions
from tailforge.flows.build.rounds import Selected, first_sizes, require_quotas, run_rounds
from tailforge.flows.estimate.forecast import Forecast, find_prompts, forecast_build
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.stages.registry import stage_names
from tailforge.tasks.stages.samples import STAGE as SAMPLES

DRAWN = tuple(stage.name for stage in PARTITION)


@dataclass(frozen=True)
class StagePlan:
    """One stage of a plan: partitions, and rows of those that are missing."""

    stage: str
    finished: int
    missing: int
    missing_rows: int


@dataclass(frozen=True)
class Plan:
    """`complete`: every step is finished. `wanted`: accepted images; `images`: those that the first round makes.

    `finished_images` may count those of further rounds. `notes`: what a person should know of the prompts;
    `unread_prompts`: how many of each concept are not drawn, since the generator does not read the concept in them.
    """

    stages: list[StagePlan]
    complete: bool
    tally: Tally
    concepts: int
    wanted: int
    images: int
    finished_images: int
    notes: list[str] = field(default_factory=list)
    unread_prompts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """All results of a build: its rounds, its partitions with augmented rows, its shards."""

    selected: Selected
    partitions: list[BuiltPartition]
    shards: list[Receipt]


def walk(drive: Drive, context: BuildContext, *, any_cost: bool = False) -> Built | None:
    """Walk through all steps of a build, the one way to build, to plan and to look; return None if a step is missing.

    A drive that runs steps makes the missing ones. A dry one stops at the first missing step of each chain.
    Errors: RoundLimitError before a round that costs more than the recipe allows, unless `any_cost`; QuotaError; the
    first error of a step. Only a drive that runs steps raises them.
    """
    selected = run_rounds(drive, context, any_cost=any_cost)
    if selected is None:
        return None
    if drive.submit is not None:
        require_quotas(context.recipe, selected)
    partitions = augment_all(drive, context, selected.jobs, selected.partitions, selected.selection)
    if partitions is None:
        return None
    shards = write_all(drive, context, partitions, selected.selection)
    return None if shards is None else Built(selected, partitions, shards)


def plan_build(context: BuildContext) -> Plan:
    """Dry run of a build against the receipts in its store."""
    store = Store.open(context.store)
    drive = Drive(store, submit=None)
    complete = walk(drive, context) is not None
    if SAMPLES.name not in drive.tally.expected and engine_of(context.recipe).draws_at_once:
        _look_ahead(drive, context)
    tally, ahead = drive.tally, forecast_build(store, context)
    stages = [_plan_stage(stage, tally, ahead) for stage in stage_names()]
    return Plan(
        stages=[stage for stage in stages if stage.finished or stage.missing],
        complete=complete,
        tally=tally,
        concepts=len(context.recipe.concepts),
        wanted=sum(concept.wanted for concept in context.recipe.concepts),
        images=ahead.images,
        finished_images=sum(receipt.rows for receipt in tally.receipts if receipt.stage == SAMPLES.name),
        notes=ahead.heard.notes if ahead.heard else [],
        unread_prompts=ahead.heard.unread_counts if ahead.heard else {},
    )


def _look_ahead(drive: Drive, context: BuildContext) -> None:
    """Meet the first round though prompts are missing: an added concept leaves the others' partitions finished."""
    prompts = find_prompts(drive.store, context) if drive.store.names(f"artifacts/{SAMPLES.name}") else None
    if prompts is not None:
        planned = plan_partitions(context, prompts, 0, first_sizes(context.recipe))
        drive.run([partition_chain(job, EngineInputs()) for job in planned], PARTITION)


def _plan_stage(stage: str, tally: Tally, ahead: Forecast) -> StagePlan:
    """As the walk met it; as the forecast has it where the walk did not come so far."""
    finished = tally.cached[stage]
    if stage not in tally.expected:
        return StagePlan(stage, finished, ahead.steps.get(stage, 0), ahead.rows.get(stage, 0))
    # What is missing early is missing in every later stage of its partition.
    before = DRAWN[: DRAWN.index(stage)] if stage in DRAWN else ()
    rows = sum(tally.missing_rows[each] for each in (*before, stage))
    return StagePlan(stage, finished, tally.expected[stage] - finished, rows)
