"""Walk through all steps of a build, to make them or to plan them. flows/estimate/cost.py estimates their cost.

A dry walk ends at the first missing steps. The recipe and its prompts decide the rest of the first round, so a plan
counts it as well.
"""

from dataclasses import dataclass, field

from tailforge.catalog.store import Store
from tailforge.flows.build.drive import Drive, Tally
from tailforge.flows.build.note_licences import note_licences
from tailforge.flows.build.order import PARTITION, adapt_generator, augment_all, partition_chain, write_all
from tailforge.flows.build.plan_partitions import plan_partitions
from tailforge.flows.build.rounds import first_sizes, require_quotas, run_rounds
from tailforge.flows.build.selected import Selected
from tailforge.flows.estimate.forecast import Forecast, find_prompts, forecast_build
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.stages.adaptations import STAGE as ADAPTATIONS
from tailforge.tasks.stages.registry import stage_names
from tailforge.tasks.stages.samples import STAGE as SAMPLES

DRAWN = tuple(stage.name for stage in PARTITION)


@dataclass(frozen=True)
class StagePlan:
    """One stage of a plan: its finished and missing partitions, and the rows of the missing ones."""

    stage: str
    finished: int
    missing: int
    missing_rows: int


@dataclass(frozen=True)
class Plan:
    """A dry run of a build: its stages and images. `complete`: every step is finished.

    `wanted`: images requested; `images`: images of the first round; `finished_images`: finished ones of all rounds.
    `notes`: notes on the prompts; `unread_prompts`: prompts by concept that are not drawn, because the generator does
    not read the concept in them.
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
class BuildResult:
    """All results of a build: its rounds, its partitions with augmented rows, and its shards.

    `context`: that of the build, with the adapted generator if the recipe adapts one, and in a steered build with a
    recipe that requests what was spent.
    """

    context: BuildContext
    selected: Selected
    partitions: list[BuiltPartition]
    shards: list[Receipt]


def walk(drive: Drive, context: BuildContext, *, any_cost: bool = False) -> BuildResult | None:
    """Walk through all steps of a build and return its results; None if a step is missing.

    A drive that runs steps makes the missing ones. A dry one stops at the first missing step of each chain.
    Errors: RoundLimitError before a round that costs more than the recipe allows, unless `any_cost`; QuotaError; the
    first error of a step. Only a drive that runs steps raises them.
    """
    adapted = adapt_generator(drive, context)
    if adapted is None:
        return None
    return _walk_on(drive, adapted, any_cost=any_cost)


def _walk_on(drive: Drive, context: BuildContext, *, any_cost: bool) -> BuildResult | None:
    """Walk through all steps after the adaptation of the generator."""
    selected = run_rounds(drive, context, any_cost=any_cost)
    if selected is None:
        return None
    if drive.submit is not None:
        require_quotas(selected)
    context = selected.context
    partitions = augment_all(drive, context, selected.jobs, selected.partitions, selected.selection)
    if partitions is None:
        return None
    shards = write_all(drive, context, partitions, selected.selection)
    return None if shards is None else BuildResult(context, selected, partitions, shards)


def plan_build(context: BuildContext) -> Plan:
    """Return the plan of a build, from the receipts in its store. Errors: RecipeError, StoreError."""
    store = Store.open(context.store)
    drive = Drive(store, submit=None)
    complete = walk(drive, context) is not None
    unseen = SAMPLES.name not in drive.tally.expected and not drive.tally.missing[ADAPTATIONS.name]
    if unseen and engine_of(context.recipe).draws_at_once:
        _look_ahead(drive, context)

    # Count the stages that the walk did not reach by the forecast.
    tally, ahead = drive.tally, forecast_build(store, context)
    stages = [_plan_stage(stage, tally, ahead) for stage in stage_names()]
    readable = ahead.readable

    return Plan(
        stages=[stage for stage in stages if stage.finished or stage.missing],
        complete=complete,
        tally=tally,
        concepts=len(context.recipe.concepts),
        wanted=sum(concept.wanted for concept in context.recipe.concepts),
        images=ahead.images,
        finished_images=sum(receipt.rows for receipt in tally.receipts if receipt.stage == SAMPLES.name),
        notes=[*note_adaptation(context, tally), *note_licences(context), *(readable.notes if readable else [])],
        unread_prompts=readable.unread_counts if readable else {},
    )


def note_adaptation(context: BuildContext, tally: Tally) -> list[str]:
    """Return a note on a training that comes first; empty without any."""
    adapt, images = context.recipe.adaptation, context.photographs
    if adapt is None or images is None or not tally.missing[ADAPTATIONS.name]:
        return []
    work = f"{count_of(adapt.learning.steps, 'step')} on {count_of(images.images, 'image')} of {images.origin}"
    return [f"the generator is not trained yet: {work} come first"]


def _look_ahead(drive: Drive, context: BuildContext) -> None:
    """Count the first round's partitions although prompts are missing: those of other concepts may be finished."""
    prompts = find_prompts(drive.store, context) if drive.store.names(f"artifacts/{SAMPLES.name}") else None
    if prompts is not None:
        planned = plan_partitions(context, prompts, 0, first_sizes(context.recipe))
        drive.run([partition_chain(job, EngineInputs()) for job in planned], PARTITION)


def _plan_stage(stage: str, tally: Tally, ahead: Forecast) -> StagePlan:
    """Return the plan of a stage from the walk, or from the forecast if the walk did not reach it."""
    finished = tally.cached[stage]
    if stage not in tally.expected:
        return StagePlan(stage, finished, ahead.steps.get(stage, 0), ahead.rows.get(stage, 0))

    # A partition that misses an early stage misses every later one.
    before = DRAWN[: DRAWN.index(stage)] if stage in DRAWN else ()
    rows = sum(tally.missing_rows[each] for each in (*before, stage))
    return StagePlan(stage, finished, tally.expected[stage] - finished, rows)
