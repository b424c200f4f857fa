"""Plan the partitions of a round: a few numbers each, so that a million samples need little memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from tailforge.schemas.jobs import BuildContext, PartitionJob, Prompt
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.planning.samples import plan_round, plan_slice, turn_prompts


@dataclass(frozen=True)
class PlannedPartition:
    """A partition of a plan. `write` returns its job, with all samples written out."""

    concept: str
    source: str
    part: int
    rows: int
    write: Callable[[], PartitionJob]

    @property
    def job(self) -> PartitionJob:
        """Return the job of the partition."""
        return self.write()


def plan_partitions(
    context: BuildContext, prompts: Mapping[str, list[Prompt]], attempt: int, sizes: dict[str, int]
) -> Iterator[PlannedPartition]:
    """Yield the partitions of one round, concept by concept. `part` counts within concept, attempt and source."""
    run = samples_per_run(context)
    for concept, size in sizes.items():
        counts: dict[str, int] = {}
        turned = turn_prompts(context.recipe, concept, prompts[concept], attempt)
        for source, numbers in plan_round(context.recipe, turned, size, run):
            part = counts[source] = counts.get(source, -1) + 1
            write = partial(write_job, context, concept, turned, attempt, source, part, numbers)
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
    """Return the job of a planned partition: the samples of its source with these numbers."""
    samples = plan_slice(context.recipe, concept, prompts, attempt, source, numbers)
    return PartitionJob(build=context, concept=concept, attempt=attempt, source=source, part=part, samples=samples)


def samples_per_run(context: BuildContext) -> int | None:
    """Return the samples per concept of one run over all concepts; None for an engine without such runs."""
    before = engine_of(context.recipe).round
    return None if before is None else before.count_samples(context)


def list_runs(jobs: list[PlannedPartition]) -> list[tuple[str, int]]:
    """Return (source, part) of the runs that make the partitions of a round."""
    return list(dict.fromkeys((job.source, job.part) for job in jobs))
