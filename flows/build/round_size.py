"""The size of a further round, and whether it fits into what a command allows."""

from dataclasses import dataclass

from tailforge.flows.build.drive import Drive
from tailforge.flows.build.order import PARTITION, partition_chain, prepare_round
from tailforge.flows.build.plan_partitions import PlannedPartition, list_runs
from tailforge.flows.build.selected import Inputs, Prompts
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import LimitReachedError
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.report.units import show_seconds
from tailforge.tasks.stages.samples import STAGE as SAMPLES


@dataclass(frozen=True)
class RoundSize:
    """Images and partitions of a round, and `runs` over all concepts, 0 for an engine without such runs."""

    images: int
    runs: int
    partitions: int

    @property
    def work(self) -> int:
        """Return the size in the unit that the engine's time follows."""
        return self.runs or self.images


def measure_round(recipe: Recipe, planned: list[PlannedPartition]) -> RoundSize:
    """Return the size of a round with these partitions."""
    runs = len(list_runs(planned)) if engine_of(recipe).round else 0
    return RoundSize(sum(job.rows for job in planned), runs, len(planned))


def find_missing(
    drive: Drive,
    context: BuildContext,
    prompts: Prompts,
    attempt: int,
    planned: list[PlannedPartition],
    inputs: Inputs,
) -> RoundSize:
    """Return the part of a round that no earlier build has drawn."""
    dry = Drive(drive.store, submit=None)
    if before := engine_of(context.recipe).round:
        prepare_round(dry, context, prompts, attempt, planned, "", before)
        runs = dry.tally.missing[before.stage]
        return RoundSize(dry.tally.missing_rows[before.stage], runs, runs)
    dry.run([partition_chain(job, inputs[job.concept]) for job in planned], PARTITION)
    return RoundSize(dry.tally.missing_rows[SAMPLES.name], 0, dry.tally.missing[SAMPLES.name])


def require_affordable(drive: Drive, recipe: Recipe, attempt: int, missing: RoundSize) -> None:
    """Refuse a further round whose `missing` part is expected to exceed a limit of the command.

    `attempt`: number of the round, from 0. Errors: LimitReachedError.
    """
    spending, before = drive.spending, engine_of(recipe).round
    if spending is None or not missing.images:
        return
    kind = tuple(stage.name for stage in PARTITION) if before is None else (before.stage,)
    if excess := spending.find_excess(missing.images, missing.partitions, 0, kind):
        seconds = spending.expect(missing.partitions, kind).seconds
        time = f" in about {show_seconds(seconds)}" if seconds else ""
        raise LimitReachedError(
            f"round {attempt + 1} would draw {count_of(missing.images, 'image')}{time}, but {excess}; --yes begins the "
            "round and draws what fits"
        )
