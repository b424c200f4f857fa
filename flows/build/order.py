"""The order of the stages: adaptations, prompts, samples, masks, verdicts, selection, augmented, shard plan, shards.

An engine may name stages before the first round (aims, seeds) or before the samples of each round (inversions). Only
the order is here: tasks/stages/ has the work of each stage, and drive.py runs the steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from tailforge.flows.build.drive import Chain, Drive, Step
from tailforge.flows.build.plan_partitions import PlannedPartition, list_runs
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.explanation import RepairRecord
from tailforge.schemas.jobs import BuildContext, PartitionJob, Prompt
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.artifacts.decisions import find_repairs, find_reviews, repaired_job
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.engines.contract import Preparation, Round
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.stages.adaptations import STAGE as ADAPTATIONS
from tailforge.tasks.stages.adaptations import count_measurements, use_adapted
from tailforge.tasks.stages.augmented import STAGE as AUGMENTED
from tailforge.tasks.stages.augmented import Bounds
from tailforge.tasks.stages.masks import STAGE as MASKS
from tailforge.tasks.stages.prompts import STAGE as PROMPTS
from tailforge.tasks.stages.prompts import read_prompts
from tailforge.tasks.stages.registry import find_stage
from tailforge.tasks.stages.samples import STAGE as SAMPLES
from tailforge.tasks.stages.selection import STAGE as SELECTION
from tailforge.tasks.stages.selection import accepted_rows
from tailforge.tasks.stages.shard_plan import STAGE as SHARD_PLAN
from tailforge.tasks.stages.shards import STAGE as SHARDS
from tailforge.tasks.stages.shards import ShardJob, list_shard_jobs
from tailforge.tasks.stages.verdicts import STAGE as VERDICTS

# Stages of every recipe, in order; an engine adds its own.
CHAIN = (PROMPTS, SAMPLES, MASKS, VERDICTS, SELECTION, AUGMENTED, SHARD_PLAN, SHARDS)
PARTITION = (SAMPLES, MASKS, VERDICTS)  # stages of the chain of one partition


@dataclass(frozen=True)
class Drawn:
    """Partitions of a round: planned and finished."""

    jobs: list[PlannedPartition]
    partitions: list[BuiltPartition]


def adapt_generator(drive: Drive, context: BuildContext) -> BuildContext | None:
    """Adapt the generator if the recipe says so; return the context that draws with it.

    Return None if it is not yet trained in a dry run. Errors: those of the stage; DamagedArtifactError.
    """
    adapt = context.recipe.adaptation
    if adapt is None or context.photographs is None:
        return context

    def chain() -> Chain:
        """Adapt the generator."""
        return (yield Step(ADAPTATIONS, (context,), count_measurements(adapt)))

    part = f"adaptation to {count_of(context.photographs.images, 'image')}"
    receipt = drive.run([chain()], [ADAPTATIONS], part)[0]
    return None if receipt is None else use_adapted(drive.store, context, receipt)


def expand_all(drive: Drive, context: BuildContext) -> dict[str, list[Prompt]] | None:
    """Return the prompts of every concept; None if some are missing in a dry run. Errors: those of the stage."""

    def chain(concept: str) -> Chain:
        """Expand the prompts of one concept."""
        return (yield Step(PROMPTS, (context, concept)))

    names = [concept.name for concept in context.recipe.concepts]
    receipts = drive.run([chain(name) for name in names], [PROMPTS])
    if None in receipts:
        return None
    tables = [read_table(drive.store, receipt) for receipt in receipts]
    return {name: read_prompts(table) for name, table in zip(names, tables, strict=True)}


def prepare_all(
    drive: Drive, context: BuildContext, prompts: Mapping[str, list[Prompt]]
) -> dict[str, EngineInputs] | None:
    """Make the inputs of each concept that the engine needs before the first round; None if one is missing."""
    inputs = dict.fromkeys(prompts, EngineInputs())
    for preparation in engine_of(context.recipe).preparations:
        jobs = preparation.list_jobs(context, prompts)
        chains = [_prepare(preparation, job, inputs[job.concept]) for job in jobs]
        made = drive.run(chains, [find_stage(preparation.stage)])
        if None in made:
            return None

        # Hand the results on to their concepts.
        found: dict[str, list[Receipt]] = {name: [] for name in prompts}
        for job, receipt in zip(jobs, made, strict=True):
            found[job.concept].append(receipt)
        inputs = preparation.hand_on(inputs, found)
    return inputs


def _prepare(preparation: Preparation, job: PartitionJob, inputs: EngineInputs) -> Chain:
    """Make one result of a preparation."""
    given = (job, *preparation.read(inputs))
    return (yield Step(find_stage(preparation.stage), given, preparation.count_rows(job)))


def draw_partitions(
    drive: Drive,
    context: BuildContext,
    prompts: Mapping[str, list[Prompt]],
    attempt: int,
    planned: list[PlannedPartition],
    inputs: Mapping[str, EngineInputs],
    part: str,
) -> Drawn | None:
    """Draw, annotate and judge the partitions of a round and their repairs; None if a step is missing in a dry run."""
    read: list[EngineInputs] | None = [inputs[job.concept] for job in planned]
    if before := engine_of(context.recipe).round:
        read = prepare_round(drive, context, prompts, attempt, planned, part, before)
    if read is None:
        return None

    chains = [partition_chain(job, own) for job, own in zip(planned, read, strict=True)]
    made = drive.run(chains, PARTITION, part)
    if None in made or (repaired := judge_repairs(drive, context, planned, made)) is None:
        return None
    return Drawn([*planned, *repaired.jobs], [*made, *repaired.partitions])


def prepare_round(
    drive: Drive,
    context: BuildContext,
    prompts: Mapping[str, list[Prompt]],
    attempt: int,
    jobs: list[PlannedPartition],
    part: str,
    before: Round,
) -> list[EngineInputs] | None:
    """Return the inputs of each partition of a round, from the runs over all concepts; None if one is missing."""
    stage = find_stage(before.stage)

    def draw(source: str, part: int) -> Chain:
        """Make the images of one run."""
        job = before.make_job(context, prompts, attempt, source, part)
        rows = sum(place.sample_id is not None for place in job.places)  # fillers become no rows
        return (yield Step(stage, (job,), rows))

    runs = list_runs(jobs)
    made = drive.run([draw(*run) for run in runs], [stage], part)
    if None in made:
        return None
    receipts = dict(zip(runs, made, strict=True))
    return [before.hand_on(receipts[job.source, job.part]) for job in jobs]


def partition_chain(planned: PlannedPartition, inputs: EngineInputs) -> Chain:
    """Draw, annotate and judge one partition; return the BuiltPartition."""
    job = planned.job
    samples = yield Step(SAMPLES, (job, inputs), planned.rows)
    return (yield from judge_chain(job, samples))


def judge_chain(job: PartitionJob, samples: Receipt, parent: str | None = None) -> Chain:
    """Annotate and judge a drawn partition; return the BuiltPartition."""
    rows = len(job.samples)
    masks = yield Step(MASKS, (job, samples), rows)
    verdicts = yield Step(VERDICTS, (job, samples, masks), rows)
    return BuiltPartition(
        concept=job.concept,
        attempt=job.attempt,
        samples=samples,
        masks=masks,
        verdicts=verdicts,
        parent=parent,
        reviews=find_reviews(job),
    )


def judge_repairs(
    drive: Drive, context: BuildContext, jobs: list[PlannedPartition], partitions: list[BuiltPartition]
) -> Drawn | None:
    """Annotate and judge the repairs of samples in these partitions; None if a step is missing in a dry run.

    A repair counts only while the generator still draws the image that was repaired.
    """
    found: list[tuple[PartitionJob, RepairRecord]] = []
    for planned, partition in zip(jobs, partitions, strict=True) if context.repairs else ():
        job = planned.job
        for repair in find_repairs(drive.store, context, job, partition.samples):
            found.append((repaired_job(job, repair, len(found)), repair))
            drive.add_cached(repair.samples)
    chains = [judge_chain(job, repair.samples, repair.parent) for job, repair in found]
    made = drive.run(chains, [MASKS, VERDICTS], "repairs") if chains else []
    repaired = [PlannedPartition(job.concept, job.source, job.part, 1, partial(_same, job)) for job, _ in found]
    return None if None in made else Drawn(repaired, made)


def _same(job: PartitionJob) -> PartitionJob:
    """Return the job, as `PlannedPartition.write` must."""
    return job


def select_all(drive: Drive, context: BuildContext, partitions: list[BuiltPartition]) -> Receipt | None:
    """Return the selection over all partitions so far; None if it is missing in a dry run."""

    def chain() -> Chain:
        """Select over all partitions."""
        return (yield Step(SELECTION, (context, partitions)))

    return drive.run([chain()], [SELECTION])[0]  # type: ignore[no-any-return]


def augment_all(
    drive: Drive,
    context: BuildContext,
    jobs: list[PlannedPartition],
    partitions: list[BuiltPartition],
    selection: Receipt,
) -> list[BuiltPartition] | None:
    """Return the partitions, with augmented rows if the recipe augments; None if a step is missing."""
    if context.recipe.augmentation is None:
        return partitions
    bounds = selection.details["bounds"]
    rows = accepted_rows(read_table(drive.store, selection), len(partitions))
    work = zip(jobs, partitions, rows, strict=True)
    made = drive.run([augment_chain(*entry, bounds) for entry in work], [AUGMENTED])
    return None if None in made else made


def augment_chain(
    planned: PlannedPartition, partition: BuiltPartition, accepted: list[int], bounds: Mapping[str, Bounds]
) -> Chain:
    """Augment the accepted rows of one partition; return the BuiltPartition. `bounds`: by concept."""
    job = planned.job
    given = (job, partition.samples, partition.masks, accepted, bounds[job.concept])
    receipt = yield Step(AUGMENTED, given, len(accepted))
    return partition.model_copy(update={"augmented": receipt})


def write_all(
    drive: Drive, context: BuildContext, partitions: list[BuiltPartition], selection: Receipt
) -> list[Receipt] | None:
    """Return the shards of all splits, in order; None if a step is missing in a dry run."""

    def plan() -> Chain:
        """Plan the shards."""
        return (yield Step(SHARD_PLAN, (context, selection, partitions)))

    def chain(job: ShardJob) -> Chain:
        """Write one shard."""
        return (yield Step(SHARDS, (context, job), job.rows))

    planned = drive.run([plan()], [SHARD_PLAN])[0]
    if planned is None:
        return None
    made = drive.run([chain(job) for job in list_shard_jobs(planned, partitions)], [SHARDS])
    return None if None in made else made
