"""Rounds of images: draw, select, and draw more for concepts that are short, until all quotas are met."""

from collections import Counter
from collections.abc import Mapping

from tailforge.flows.build.drive import Drive
from tailforge.flows.build.order import (
    draw_partitions,
    expand_all,
    prepare_all,
    select_all,
)
from tailforge.flows.build.plan_partitions import PlannedPartition, plan_partitions
from tailforge.flows.build.read_prompts import filter_readable
from tailforge.flows.build.round_size import RoundSize, find_missing, measure_round, require_affordable
from tailforge.flows.build.selected import Ready, Selected
from tailforge.flows.build.steer import steer_rounds
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import QuotaError, RoundLimitError
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.artifacts.decisions import REPAIR_SOURCE
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.planning.samples import first_round_size, next_round_size
from tailforge.tasks.methods.quality.gates import count_accepted
from tailforge.tasks.report.units import show_seconds
from tailforge.tasks.stages.samples import STAGE as SAMPLES

NAMED = 3  # concepts in an error


def run_rounds(drive: Drive, context: BuildContext, *, any_cost: bool = False) -> Selected | None:
    """Draw all rounds of a build; return None if a step is missing in a dry run.

    Errors, unless `any_cost`: before a further round RoundLimitError, if it costs more than the recipe allows, and
    LimitReachedError, if it is expected to exceed a limit of the command. A dry run goes on.
    """
    # Prompts, and what the engine reads of each concept.
    if (expanded := expand_all(drive, context)) is None:
        return None
    readable = filter_readable(context, expanded)
    drive.show_notes(readable.notes)
    if (inputs := prepare_all(drive, context, readable.prompts)) is None:
        return None

    ready = Ready(readable.prompts, inputs, readable.unread_counts)
    if context.recipe.allocation.steers:
        return steer_rounds(drive, context, ready, any_cost=any_cost)
    return fill_quotas(drive, context, ready, any_cost=any_cost)


def fill_quotas(drive: Drive, context: BuildContext, ready: Ready, *, any_cost: bool) -> Selected | None:
    """Draw rounds until all quotas are met or `max_rounds` is over; return None if a step is missing in a dry run.

    Errors: as `run_rounds`.
    """
    recipe, limited = context.recipe, drive.submit is not None and not any_cost
    sizes, first = first_sizes(recipe), RoundSize(0, 0, 0)
    jobs: list[PlannedPartition] = []
    partitions: list[BuiltPartition] = []
    rounds: list[dict[str, int]] = []
    selected: Selected | None = None
    for attempt in range(recipe.quality.max_rounds):
        # Plan a round; refuse it if it is too large.
        planned = list(plan_partitions(context, ready.prompts, attempt, sizes))
        first = first if selected else measure_round(recipe, planned)
        if selected and limited and (drive.spending or exceeds(recipe, first, measure_round(recipe, planned))):
            missing = find_missing(drive, context, ready.prompts, attempt, planned, ready.inputs)
            require_round(recipe, selected, first, missing, drive.tally.receipts)
            require_affordable(drive, recipe, attempt, missing)

        # Draw it, and select over all rounds so far.
        part = describe_round(recipe, attempt, planned)
        drawn = draw_partitions(drive, context, ready.prompts, attempt, planned, ready.inputs, part)
        if drawn is None:
            return None
        jobs, partitions, rounds = [*jobs, *drawn.jobs], [*partitions, *drawn.partitions], [*rounds, sizes]
        if (selection := select_all(drive, context, partitions)) is None:
            return None
        accepted = count_accepted(read_table(drive.store, selection, ["concept", "accepted"]))
        selected = Selected(context, jobs, partitions, selection, rounds, accepted, ready.unread)
        if not (sizes := next_sizes(recipe, selected)):
            break
    return selected


def first_sizes(recipe: Recipe) -> dict[str, int]:
    """Return the samples of the first round by concept: in a steered build one batch each."""
    if recipe.allocation.steers:
        return {concept.name: recipe.engine.batch_size for concept in recipe.concepts}
    return {concept.name: first_round_size(concept.wanted, recipe.quality) for concept in recipe.concepts}


def next_sizes(recipe: Recipe, selected: Selected) -> dict[str, int]:
    """Return the samples of a further round by concept, for concepts that are short."""
    tried, accepted = count_tried(selected), selected.accepted
    sizes = {c.name: next_round_size(c.wanted, accepted.get(c.name, 0), tried[c.name]) for c in recipe.concepts}
    return {name: size for name, size in sizes.items() if size}


def count_tried(selected: Selected) -> Counter[str]:
    """Return the drawn images by concept. A repair is no new try."""
    tried: Counter[str] = Counter()
    for job in selected.jobs:
        tried[job.concept] += 0 if job.source == REPAIR_SOURCE else job.rows
    return tried


def describe_round(recipe: Recipe, attempt: int, jobs: list[PlannedPartition]) -> str:
    """Return the words for a round while it runs."""
    images = sum(job.rows for job in jobs)
    return f"round {attempt + 1} of at most {recipe.quality.max_rounds}, {count_of(images, 'image')}"


def exceeds(recipe: Recipe, first: RoundSize, planned: RoundSize) -> bool:
    """Return whether a round costs more than `quality.round_limit` times the first."""
    limit = recipe.quality.round_limit
    return limit is not None and planned.work > limit * first.work


def require_round(
    recipe: Recipe, selected: Selected, first: RoundSize, missing: RoundSize, receipts: list[Receipt]
) -> None:
    """Refuse the next round if the `missing` part of it is too large.

    `selected`: all rounds before it; `receipts`: of their steps. Errors: RoundLimitError.
    """
    if not exceeds(recipe, first, missing):
        return

    attempt = len(selected.rounds)
    runs = f" in {count_of(missing.runs, 'run')} of the inversion" if missing.runs else ""
    times = f"{missing.work / first.work:.3g} times the first round"
    seconds = _predict_seconds(recipe, missing, receipts)
    time = f", about {show_seconds(seconds)} of computing" if seconds else ""
    raise RoundLimitError(
        f"round {attempt + 1} would draw {count_of(missing.images, 'image')}{runs}, {times}{time}, for few images are "
        f"accepted: {_name_short(recipe, selected)}. Finished work is kept. Loosen quality.gates; or publish what "
        f"there is by quality.max_rounds={attempt}; or go on by --yes or a quality.round_limit above "
        f"{recipe.quality.round_limit:g}"
    )


def _name_short(recipe: Recipe, selected: Selected) -> str:
    """Return the concepts that are short, with accepted and drawn images, the worst yield first."""
    tried, accepted = count_tried(selected), selected.accepted
    shares = {name: (accepted.get(name, 0), tried[name]) for name in next_sizes(recipe, selected)}
    worst = sorted(shares.items(), key=lambda item: item[1][0] / max(item[1][1], 1))
    short = ", ".join(f"{name} {yielded:,} of {drawn:,}" for name, (yielded, drawn) in worst[:NAMED])
    return short + (f" and {len(worst) - NAMED} more" if len(worst) > NAMED else "")


def _predict_seconds(recipe: Recipe, missing: RoundSize, receipts: list[Receipt]) -> float:
    """Return the seconds of computing for the missing part of a round, at the pace so far; 0 if that is unknown."""
    before = engine_of(recipe).round
    samples = [receipt for receipt in receipts if receipt.stage == SAMPLES.name]
    runs = [receipt for receipt in receipts if before is not None and receipt.stage == before.stage]
    seconds = sum(receipt.timings.get("compute", 0.0) for receipt in (*samples, *runs))
    done = len(runs) if missing.runs else sum(receipt.rows for receipt in samples)
    return seconds / done * missing.work if done else 0.0


def shortfall(recipe: Recipe, accepted: Mapping[str, int]) -> dict[str, int]:
    """Return the lacking images by concept, for concepts that lack some."""
    lacking = {c.name: c.wanted - accepted.get(c.name, 0) for c in recipe.concepts}
    return {name: count for name, count in lacking.items() if count > 0}


def require_quotas(selected: Selected) -> None:
    """Refuse a build with short concepts, if the recipe says so. Errors: QuotaError with every short concept."""
    recipe = selected.context.recipe
    short = shortfall(recipe, selected.accepted)
    if short and recipe.quality.on_shortfall == "fail":
        names = ", ".join(f"{name} lacks {count}" for name, count in short.items())
        raise QuotaError(
            f"after {count_of(len(selected.rounds), 'round')}: {names}; loosen quality.gates, raise "
            "quality.max_rounds, or set quality.on_shortfall to report. Nothing was published; what was made is kept"
        )
