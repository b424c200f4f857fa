"""The chain of a build: prompts -> samples -> masks -> verdicts -> selection -> augmentation -> shards.

Before the samples of an engine that searches: aims, and seeds where it starts from such. Before those of a round of
engine natural_inversion: inversions.

Only the order is here. What a stage does is in tasks/, how steps run is in flows/build/drive.py.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tailforge.catalog.store import Store
from tailforge.flows.build.drive import Chain, Drive, Step
from tailforge.flows.build.limit_rounds import RoundSize, exceeds, require_round
from tailforge.flows.build.read_prompts import hear_prompts
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.explanation import RepairRecord
from tailforge.schemas.jobs import BuildContext, PartitionJob, Prompt
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.artifacts.contract import Address, read_table
from tailforge.tasks.artifacts.mended_samples import REPAIR_SOURCE, find_repairs, mended_job
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.artifacts.reviewed_samples import find_reviews
from tailforge.tasks.engines.contract import Preparation, Round
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.planning.samples import first_round_size, next_round_size, plan_round, plan_slice
from tailforge.tasks.methods.quality.gates import count_accepted
from tailforge.tasks.stages import aims as aim_search
from tailforge.tasks.stages import augmented as augment_samples
from tailforge.tasks.stages import inversions as invert_teacher
from tailforge.tasks.stages import masks as annotate_masks
from tailforge.tasks.stages import prompts as expand_prompts
from tailforge.tasks.stages import samples as synthesize
from tailforge.tasks.stages import seeds as find_seeds
from tailforge.tasks.stages import selection as select_samples
from tailforge.tasks.stages import shards as write_shards
from tailforge.tasks.stages import verdicts as filter_quality


@dataclass(frozen=True)
class PreparingStage:
    """How a stage is located and run that an engine names."""

    locate: Callable[..., Address]
    task: Any


PREPARING: Mapping[str, PreparingStage] = {
    "aims": PreparingStage(aim_search.locate, aim_search.aim_search),
    "seeds": PreparingStage(find_seeds.locate, find_seeds.find_seeds),
    "inversions": PreparingStage(invert_teacher.locate, invert_teacher.invert_teacher),
}


@dataclass(frozen=True)
class PlannedPartition:
    """A partition as a plan holds it: a few numbers, so that a million samples cost a plan no memory.

    `write` gives its job, with all samples written out.
    """

    concept: str
    source: str
    part: int
    rows: int
    write: Callable[[], PartitionJob]

    @property
    def job(self) -> PartitionJob:
        return self.write()


@dataclass(frozen=True)
class Selected:
    """All rounds of a build: plans and their finished partitions, what was selected, the size of each round.

    `unread`: prompts of each concept that are not drawn, since the generator does not read the concept in them.
    """

    jobs: list[PlannedPartition]
    partitions: list[BuiltPartition]
    selection: Receipt
    rounds: list[dict[str, int]]
    accepted: dict[str, int]
    unread: dict[str, int]


@dataclass(frozen=True)
class Mended:
    """The repairs of a round: a partition of one sample each."""

    jobs: list[PlannedPartition]
    partitions: list[BuiltPartition]


def expand_all(drive: Drive, context: BuildContext) -> dict[str, list[Prompt]] | None:
    """Prompts of every concept; None while some are missing and nothing may be run."""

    def chain(concept: str) -> Chain:
        return (
            yield Step(
                expand_prompts.locate(context, concept),
                expand_prompts.expand_prompts,
                (context, concept),
            )
        )

    names = [concept.name for concept in context.recipe.concepts]
    receipts = drive.run([chain(name) for name in names], ["prompts"])
    if None in receipts:
        return None
    tables = [read_table(drive.store, receipt) for receipt in receipts]
    return {name: expand_prompts.read_prompts(table) for name, table in zip(names, tables, strict=True)}


def prepare_all(
    drive: Drive, context: BuildContext, prompts: dict[str, list[Prompt]]
) -> dict[str, EngineInputs] | None:
    """Make what the engine reads of each concept, before the first round; None if a step is missing in a dry run."""
    inputs = dict.fromkeys(prompts, EngineInputs())
    for preparation in engine_of(context.recipe).preparations:
        jobs = preparation.list_jobs(context, prompts)
        made = drive.run([_prepare(preparation, job, inputs[job.concept]) for job in jobs], [preparation.stage])
        if None in made:
            return None
        found: dict[str, list[Receipt]] = {name: [] for name in prompts}
        for job, receipt in zip(jobs, made, strict=True):
            found[job.concept].append(receipt)
        inputs = preparation.hand_on(inputs, found)
    return inputs


def _prepare(preparation: Preparation, job: PartitionJob, inputs: EngineInputs) -> Chain:
    stage, given = PREPARING[preparation.stage], (job, *preparation.read(inputs))
    return (yield Step(stage.locate(*given), stage.task, given, preparation.count_rows(job)))


def plan_partitions(
    context: BuildContext, prompts: dict[str, list[Prompt]], attempt: int, sizes: dict[str, int]
) -> Iterator[PlannedPartition]:
    """Partitions of one round, concept by concept. `part` counts within concept, attempt and source."""
    run = samples_per_run(context)
    for concept, size in sizes.items():
        counts: dict[str, int] = {}
        for source, numbers in plan_round(context.recipe, prompts[concept], size, run):
            part = counts[source] = counts.get(source, -1) + 1
            write = partial(write_job, context, concept, prompts[concept], attempt, source, part, numbers)
            yield PlannedPartition(concept, source, part, len(numbers), write)


def write_job(
    context: BuildContext,
    concept: str,
    prompts: list[Prompt],
    attempt: int,
    source: str,
    part: int,
    numbers: range,
) -> PartitionJob:
    """A planned partition with its samples, those of its source with these numbers."""
    samples = plan_slice(context.recipe, concept, prompts, attempt, source, numbers)
    return PartitionJob(build=context, concept=concept, attempt=attempt, source=source, part=part, samples=samples)


def samples_per_run(context: BuildContext) -> int | None:
    """Samples of one concept that a run of all concepts makes; None for an engine that makes each partition alone."""
    before = engine_of(context.recipe).round
    return None if before is None else before.count_samples(context)


def list_runs(jobs: list[PlannedPartition]) -> list[tuple[str, int]]:
    """(source, part) of the runs that make the partitions of a round."""
    return list(dict.fromkeys((job.source, job.part) for job in jobs))


def draw_round(
    drive: Drive,
    context: BuildContext,
    prompts: dict[str, list[Prompt]],
    attempt: int,
    jobs: list[PlannedPartition],
    part: str,
    before: Round,
) -> list[EngineInputs] | None:
    """What each partition of a round reads: the run that makes it together with other concepts'."""
    stage = PREPARING[before.stage]

    def draw(source: str, part: int) -> Chain:
        job = before.make_job(context, prompts, attempt, source, part)
        rows = sum(place.sample_id is not None for place in job.places)  # fillers become no rows
        return (yield Step(stage.locate(job), stage.task, (job,), rows))

    runs = list_runs(jobs)
    made = drive.run([draw(*run) for run in runs], [before.stage], part)
    if None in made:
        return None
    receipts = dict(zip(runs, made, strict=True))
    return [before.hand_on(receipts[job.source, job.part]) for job in jobs]


def partition_chain(planned: PlannedPartition, inputs: EngineInputs) -> Chain:
    """Synthesise, annotate and judge one partition; returns the BuiltPartition."""
    job = planned.job
    samples = yield Step(synthesize.locate(job, inputs), synthesize.synthesize, (job, inputs), planned.rows)
    return (yield from judge_chain(job, samples))


def judge_chain(job: PartitionJob, samples: Receipt, parent: str | None = None) -> Chain:
    """Annotate and judge a partition that is drawn; returns the BuiltPartition."""
    rows = len(job.samples)
    masks = yield Step(annotate_masks.locate(job, samples), annotate_masks.annotate_masks, (job, samples), rows)
    verdicts = yield Step(
        filter_quality.locate(job, samples, masks),
        filter_quality.filter_quality,
        (job, samples, masks),
        rows,
    )
    return BuiltPartition(
        concept=job.concept,
        attempt=job.attempt,
        samples=samples,
        masks=masks,
        verdicts=verdicts,
        parent=parent,
        reviews=find_reviews(job),
    )


def mend_all(
    drive: Drive, context: BuildContext, jobs: list[PlannedPartition], partitions: list[BuiltPartition]
) -> Mended | None:
    """The repairs of samples in these partitions, annotated and judged as any sample; None if a step is missing.

    A repair counts only while the image that it was made from is still the one that is drawn.
    """
    found: list[tuple[PartitionJob, RepairRecord]] = []
    for planned, partition in zip(jobs, partitions, strict=True) if context.repairs else ():
        job = planned.job
        for repair in find_repairs(drive.store, context, job, partition.samples):
            found.append((mended_job(job, repair, len(found)), repair))
            drive.take(repair.samples)
    chains = [judge_chain(job, repair.samples, repair.parent) for job, repair in found]
    made = drive.run(chains, ["masks", "verdicts"], "repairs") if chains else []
    mended = [PlannedPartition(job.concept, job.source, job.part, 1, partial(_same, job)) for job, _ in found]
    return None if None in made else Mended(mended, made)


def _same(job: PartitionJob) -> PartitionJob:
    return job


def run_rounds(drive: Drive, context: BuildContext, *, any_cost: bool = False) -> Selected | None:
    """Rounds of synthesis until every quota is met or `max_rounds` is over; None if a step is missing in a dry run.

    Errors: RoundLimitError before a round that costs more than the recipe allows, unless `any_cost`; a dry run goes on.
    """
    recipe, before = context.recipe, engine_of(context.recipe).round
    if (expanded := expand_all(drive, context)) is None:
        return None
    heard = hear_prompts(context, expanded)
    drive.tell(heard.notes)
    prompts = heard.prompts
    if (inputs := prepare_all(drive, context, prompts)) is None:
        return None
    sizes = first_sizes(recipe)
    jobs: list[PlannedPartition] = []
    partitions: list[BuiltPartition] = []
    rounds: list[dict[str, int]] = []
    accepted: dict[str, int] = {}
    tried = Counter[str]()
    first = RoundSize(0, 0)
    for attempt in range(recipe.quality.max_rounds):
        planned = list(plan_partitions(context, prompts, attempt, sizes))
        part = describe_round(recipe, attempt, planned)
        size = measure_round(recipe, planned)
        if attempt == 0:
            first = size
        elif drive.submit is not None and not any_cost and exceeds(recipe, first, size):
            missing = find_missing(drive.store, context, prompts, attempt, planned, inputs)
            shares = {name: (accepted.get(name, 0), tried[name]) for name in sizes}
            require_round(recipe, attempt, first, missing, drive.tally.receipts, shares)
        read = [inputs[job.concept] for job in planned]
        if before is not None:
            if (drawn := draw_round(drive, context, prompts, attempt, planned, part, before)) is None:
                return None
            read = drawn
        chains = [partition_chain(job, own) for job, own in zip(planned, read, strict=True)]
        made = drive.run(chains, ["samples", "masks", "verdicts"], part)
        if None in made or (mended := mend_all(drive, context, planned, made)) is None:
            return None
        jobs, partitions = [*jobs, *planned, *mended.jobs], [*partitions, *made, *mended.partitions]
        rounds = [*rounds, sizes]
        if (selection := _select(drive, context, partitions)) is None:
            return None
        accepted = count_accepted(read_table(drive.store, selection, ["concept", "accepted"]))
        selected = Selected(jobs, partitions, selection, rounds, accepted, heard.unread_counts)
        tried = count_tried(selected)
        sizes = next_sizes(recipe, selected)
        if not sizes:
            break
    return selected


def first_sizes(recipe: Recipe) -> dict[str, int]:
    """Samples of the first round by concept."""
    return {concept.name: first_round_size(concept.wanted, recipe.quality) for concept in recipe.concepts}


def measure_round(recipe: Recipe, planned: list[PlannedPartition]) -> RoundSize:
    """What these partitions of a round draw."""
    runs = len(list_runs(planned)) if engine_of(recipe).round else 0
    return RoundSize(sum(job.rows for job in planned), runs)


def find_missing(
    store: Store,
    context: BuildContext,
    prompts: dict[str, list[Prompt]],
    attempt: int,
    planned: list[PlannedPartition],
    inputs: dict[str, EngineInputs],
) -> RoundSize:
    """What is still to be drawn of a round: an earlier build may have drawn it."""
    dry = Drive(store, submit=None)
    if before := engine_of(context.recipe).round:
        draw_round(dry, context, prompts, attempt, planned, "", before)
        return RoundSize(dry.tally.missing_rows[before.stage], dry.tally.missing[before.stage])
    dry.run([partition_chain(job, inputs[job.concept]) for job in planned], ["samples", "masks", "verdicts"])
    return RoundSize(dry.tally.missing_rows["samples"], 0)


def describe_round(recipe: Recipe, attempt: int, jobs: list[PlannedPartition]) -> str:
    """What a person is told of a round while it runs."""
    images = sum(job.rows for job in jobs)
    return f"round {attempt + 1} of at most {recipe.quality.max_rounds}, {count_of(images, 'image')}"


def next_sizes(recipe: Recipe, selected: Selected) -> dict[str, int]:
    """Samples of a further round by concept, for those that are short."""
    tried, accepted = count_tried(selected), selected.accepted
    sizes = {c.name: next_round_size(c.wanted, accepted.get(c.name, 0), tried[c.name]) for c in recipe.concepts}
    return {name: size for name, size in sizes.items() if size}


def count_tried(selected: Selected) -> Counter[str]:
    """Images that were drawn of each concept; a repair is no new try."""
    tried: Counter[str] = Counter()
    for job in selected.jobs:
        tried[job.concept] += 0 if job.source == REPAIR_SOURCE else job.rows
    return tried


def _select(drive: Drive, context: BuildContext, partitions: list[BuiltPartition]) -> Receipt | None:
    def chain() -> Chain:
        address = select_samples.locate(context, partitions)
        return (yield Step(address, select_samples.select_samples, (context, partitions)))

    return drive.run([chain()], ["selection"])[0]  # type: ignore[no-any-return]


def augment_all(drive: Drive, context: BuildContext, selected: Selected) -> list[BuiltPartition] | None:
    """The partitions with their augmented rows, where the recipe asks for augmentation."""
    if context.recipe.augmentation is None:
        return selected.partitions
    bounds = selected.selection.details["bounds"]
    rows = select_samples.accepted_rows(read_table(drive.store, selected.selection), len(selected.partitions))

    def chain(planned: PlannedPartition, partition: BuiltPartition, accepted: list[int]) -> Chain:
        job = planned.job
        given = (job, partition.samples, partition.masks, accepted, bounds[job.concept])
        receipt = yield Step(augment_samples.locate(*given), augment_samples.augment_samples, given, len(accepted))
        return partition.model_copy(update={"augmented": receipt})

    work = zip(selected.jobs, selected.partitions, rows, strict=True)
    made = drive.run([chain(*entry) for entry in work], ["augmented"])
    return None if None in made else made


def write_all(
    drive: Drive, context: BuildContext, partitions: list[BuiltPartition], selection: Receipt
) -> list[Receipt] | None:
    """Shards of all splits, in order."""

    def plan() -> Chain:
        address = write_shards.locate_plan(context, selection, partitions)
        return (yield Step(address, write_shards.plan_build_shards, (context, selection, partitions)))

    def chain(job: write_shards.ShardJob) -> Chain:
        address = write_shards.locate(context, job)
        return (yield Step(address, write_shards.write_shard, (context, job), job.rows))

    planned = drive.run([plan()], ["shard_plan"])[0]
    if planned is None:
        return None
    made = drive.run([chain(job) for job in write_shards.list_shard_jobs(planned, partitions)], ["shards"])
    return None if None in made else made
