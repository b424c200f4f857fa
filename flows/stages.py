"""The chain of a build: prompts -> samples -> masks -> verdicts -> selection -> augmentation -> shards.

Only the order is here. What a stage does is in tasks/, how steps run is in flows/chain.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from flows.chain import Chain, Drive, Step
from schemas.jobs import BuildContext, Partition, PartitionJob, Prompt
from schemas.receipts import Receipt
from tasks import (
    annotate_masks,
    augment_samples,
    expand_prompts,
    filter_quality,
    select_samples,
    synthesize,
    write_shards,
)
from tasks.artifacts import read_table
from tasks.methods.plan_samples import first_round_size, next_round_size, plan_round
from tasks.methods.quality_gates import count_accepted


@dataclass(frozen=True)
class Selected:
    """All rounds of a build: its partitions, what was selected of them, and the size of each round by concept."""

    partitions: list[Partition]
    selection: Receipt
    rounds: list[dict[str, int]]
    accepted: dict[str, int]


def expand_all(drive: Drive, context: BuildContext) -> dict[str, list[Prompt]] | None:
    """Prompts of every concept; None while some are missing and nothing may be run."""

    def chain(concept: str) -> Chain:
        return (yield Step(
            expand_prompts.locate(context, concept),
            expand_prompts.expand_prompts,
            (context.model_dump(mode="json"), concept),
        ))

    names = [concept.name for concept in context.recipe.concepts]
    receipts = drive.run([chain(name) for name in names], ["prompts"])
    if None in receipts:
        return None
    tables = [read_table(drive.store, receipt) for receipt in receipts]
    return {name: expand_prompts.read_prompts(table) for name, table in zip(names, tables, strict=True)}


def round_jobs(
    context: BuildContext, prompts: dict[str, list[Prompt]], attempt: int, sizes: dict[str, int]
) -> Iterator[PartitionJob]:
    """Partitions of one round, concept by concept. `part` counts within concept, attempt and source."""
    for concept, size in sizes.items():
        counts: dict[str, int] = {}
        for source, samples in plan_round(context.recipe, concept, prompts[concept], attempt, size):
            part = counts[source] = counts.get(source, -1) + 1
            yield PartitionJob(
                build=context, concept=concept, attempt=attempt, source=source, part=part, samples=samples
            )


def partition_chain(job: PartitionJob) -> Chain:
    """Synthesise, annotate and judge one partition; returns the finished Partition."""
    sent, rows = job.model_dump(mode="json"), len(job.samples)
    samples = yield Step(synthesize.locate(job), synthesize.synthesize, (sent,), rows)
    masks = yield Step(
        annotate_masks.locate(job, samples), annotate_masks.annotate_masks, (sent, _dump(samples)), rows
    )
    verdicts = yield Step(
        filter_quality.locate(job, samples, masks),
        filter_quality.filter_quality,
        (sent, _dump(samples), _dump(masks)),
        rows,
    )
    return Partition(job=job, samples=samples, masks=masks, verdicts=verdicts)


def run_rounds(drive: Drive, context: BuildContext) -> Selected | None:
    """Rounds of synthesis until every quota is met or `max_rounds` is over; None if a step is missing in a dry run."""
    recipe = context.recipe
    if (prompts := expand_all(drive, context)) is None:
        return None
    sizes = {c.name: first_round_size(c.wanted, recipe.quality.oversample, recipe.engine.batch_size) for c in recipe.concepts}
    partitions: list[Partition] = []
    rounds: list[dict[str, int]] = []
    for attempt in range(recipe.quality.max_rounds):
        jobs = round_jobs(context, prompts, attempt, sizes)
        made = drive.run([partition_chain(job) for job in jobs], ["samples", "masks", "verdicts"])
        if None in made:
            return None
        partitions, rounds = partitions + made, [*rounds, sizes]
        if (selection := _select(drive, context, partitions)) is None:
            return None
        accepted = count_accepted(read_table(drive.store, selection, ["concept", "accepted"]))
        tried = {c.name: sum(sizes.get(c.name, 0) for sizes in rounds) for c in recipe.concepts}
        sizes = {
            c.name: size
            for c in recipe.concepts
            if (size := next_round_size(c.wanted, accepted.get(c.name, 0), tried[c.name], recipe.engine.batch_size))
        }
        if not sizes:
            break
    return Selected(partitions, selection, rounds, accepted)


def _select(drive: Drive, context: BuildContext, partitions: list[Partition]) -> Receipt | None:
    def chain() -> Chain:
        listed = [
            {"concept": p.job.concept, "attempt": p.job.attempt, "verdicts": _dump(p.verdicts)} for p in partitions
        ]
        return (yield Step(
            select_samples.locate(context, listed),
            select_samples.select_samples,
            (context.model_dump(mode="json"), listed),
        ))

    return drive.run([chain()], ["selection"])[0]  # type: ignore[no-any-return]


def augment_all(drive: Drive, context: BuildContext, selected: Selected) -> list[Partition] | None:
    """The partitions with their augmented rows, where the recipe asks for augmentation."""
    if context.recipe.augmentation is None:
        return selected.partitions
    rows = select_samples.accepted_rows(read_table(drive.store, selected.selection), len(selected.partitions))

    def chain(partition: Partition, accepted: list[int]) -> Chain:
        receipt = yield Step(
            augment_samples.locate(partition.job, partition.samples, partition.masks, accepted),
            augment_samples.augment_samples,
            (partition.job.model_dump(mode="json"), _dump(partition.samples), _dump(partition.masks), accepted),
            len(accepted),
        )
        return partition.model_copy(update={"augmented": receipt})

    made = drive.run([chain(p, accepted) for p, accepted in zip(selected.partitions, rows, strict=True)], ["augmented"])
    return None if None in made else made


def write_all(drive: Drive, context: BuildContext, partitions: list[Partition], selection: Receipt) -> list[Receipt] | None:
    """Shards of all splits, in order."""

    def chain(job: write_shards.ShardJob) -> Chain:
        return (yield Step(
            write_shards.locate(context, job),
            write_shards.write_shard,
            (context.model_dump(mode="json"), job.model_dump(mode="json")),
            len(job.rows),
        ))

    jobs = write_shards.plan_shards(context, drive.store, partitions, selection)
    made = drive.run([chain(job) for job in jobs], ["shards"])
    return None if None in made else made


def _dump(receipt: Receipt) -> dict[str, object]:
    return receipt.model_dump(mode="json")

