"""Rounds of a steered build: decide, draw, select, prefer and judge, until another round is not expected to pay.

Each step is a stage with a receipt, so a killed build goes on, and a finished one is planned by the same walk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from tailforge.flows.build.drive import Chain, Drive, Step
from tailforge.flows.build.order import draw_partitions, select_all
from tailforge.flows.build.plan_partitions import PlannedPartition, plan_partitions
from tailforge.flows.build.round_size import find_missing, require_affordable
from tailforge.flows.build.selected import Ready, Selected
from tailforge.schemas.allocation import AllocationJob, FinishedRound, JudgeJob, PreferenceJob
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import MOST_WANTED, Recipe
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.methods.quality.gates import count_accepted
from tailforge.tasks.stages.allocation import STAGE as ALLOCATION
from tailforge.tasks.stages.judges import NUMBERS, read_chosen, real_of, settings_of
from tailforge.tasks.stages.judges import STAGE as JUDGES
from tailforge.tasks.stages.preferences import STAGE as PREFERENCES

VERIFIER_SEED = 1_000_000  # of the classifier that never sees a synthetic image; no other has it
PER_CONCEPT = tuple[int, ...]  # in the recipe's order


@dataclass(frozen=True)
class Steering:
    """All rounds so far. `own`: partitions without repairs and reviews, which change no decision.

    `drawn`, `kept`: images per round and concept. `recall`, `macro`: before the first round and after each. `judges`:
    classifiers of the last round. `seconds`: of the partitions, by concept. `validation`: images per concept.
    """

    verifier: Receipt
    judges: tuple[Receipt, ...]
    validation: PER_CONCEPT
    recall: tuple[tuple[float, ...], ...]
    macro: tuple[float, ...]
    seconds: tuple[float, ...]
    jobs: tuple[PlannedPartition, ...] = ()
    partitions: tuple[BuiltPartition, ...] = ()
    own: tuple[BuiltPartition, ...] = ()
    sizes: tuple[dict[str, int], ...] = ()
    rounds: tuple[FinishedRound, ...] = ()
    drawn: tuple[PER_CONCEPT, ...] = ()
    kept: tuple[PER_CONCEPT, ...] = ()


def steer_rounds(drive: Drive, context: BuildContext, ready: Ready, *, any_cost: bool = False) -> Selected | None:
    """Draw rounds where they raise recall most; return None if a step is missing in a dry run.

    Errors: LimitReachedError before a round that is expected to exceed a limit of the command, unless `any_cost`.
    """
    state = begin(drive, context)
    while state is not None:
        if (sizes := decide(drive, context, state)) is None:
            return None
        if not sizes:
            return settle(drive, context, ready, state)
        planned = list(plan_partitions(context, ready.prompts, len(state.rounds), sizes))
        if drive.spending is not None and not any_cost:
            missing = find_missing(drive, context, ready.prompts, len(state.rounds), planned, ready.inputs)
            require_affordable(drive, context.recipe, len(state.rounds), missing)
        state = draw_next(drive, context, ready, state, sizes, planned)
    return None


def begin(drive: Drive, context: BuildContext) -> Steering | None:
    """Train the classifiers of real images alone; None if one is missing in a dry run."""
    verifier = JudgeJob(build=context, seed=VERIFIER_SEED, label="verifier")
    made = train(drive, [verifier, *list_judges(context, ())], "classifiers of real images")
    if made is None:
        return None

    # Recall before any synthetic image.
    numbers = real_of(context).numbers
    validation = tuple(made[0].details[NUMBERS][number] for number in numbers)
    recall, macro = measure(drive, context, made[1:])
    return Steering(made[0], tuple(made[1:]), validation, (recall,), (macro,), (0.0,) * len(numbers))


def list_judges(context: BuildContext, rounds: Sequence[FinishedRound]) -> list[JudgeJob]:
    """Return the jobs of the classifiers that judge these rounds, one per seed."""
    told = f"judge of round {len(rounds) - 1}" if rounds else "judge of real images"
    seeds = range(settings_of(context).seeds)
    return [JudgeJob(build=context, seed=seed, rounds=tuple(rounds), label=f"{told}, seed {seed}") for seed in seeds]


def train(drive: Drive, jobs: Sequence[JudgeJob], part: str) -> list[Receipt] | None:
    """Return the receipts of classifiers; None if one is missing in a dry run."""

    def chain(job: JudgeJob) -> Chain:
        """Train one classifier."""
        return (yield Step(JUDGES, (job,)))

    made = drive.run([chain(job) for job in jobs], [JUDGES], part)
    return None if None in made else made


def measure(drive: Drive, context: BuildContext, judges: Sequence[Receipt]) -> tuple[tuple[float, ...], float]:
    """Return the recall per concept and over all real classes, each the mean over the classifiers."""
    chosen: list[Mapping[str, Any]] = [read_chosen(drive.store, each) for each in judges]
    recall = tuple(fmean(each["scores"][number] for each in chosen) for number in real_of(context).numbers)
    return recall, fmean(each["macro"] for each in chosen)


def decide(drive: Drive, context: BuildContext, state: Steering) -> dict[str, int] | None:
    """Return the images of the next round by concept, none if steering ends; None if the decision is missing."""
    job = AllocationJob(
        build=context,
        drawn=state.drawn,
        kept=state.kept,
        recall=state.recall,
        macro=state.macro,
        validation=state.validation,
        seconds=state.seconds,
    )

    def chain() -> Chain:
        """Decide on one round."""
        return (yield Step(ALLOCATION, (job,)))

    made = drive.run([chain()], [ALLOCATION])[0]
    if made is None:
        return None
    rows = read_table(drive.store, made, ["concept", "images"]).to_pylist()
    return {row["concept"]: row["images"] for row in rows if row["images"]}


def draw_next(
    drive: Drive,
    context: BuildContext,
    ready: Ready,
    state: Steering,
    sizes: dict[str, int],
    planned: list[PlannedPartition],
) -> Steering | None:
    """Draw a round, choose among its accepted images, and judge all rounds; None if a step is missing in a dry run."""
    number = len(state.rounds)
    part = f"round {number + 1} of at most {settings_of(context).rounds}, {count_of(_count(planned), 'image')}"
    drawn = draw_partitions(drive, context, ready.prompts, number, planned, ready.inputs, part)
    if drawn is None:
        return None

    # Decisions of persons concern the version, and no round.
    fresh = [each.model_copy(update={"reviews": ()}) for each in drawn.partitions[: len(planned)]]
    preferences = prefer(drive, context, state, fresh)
    if preferences is None:
        return None
    finished = FinishedRound(
        concepts=tuple(each.concept for each in fresh),
        samples=tuple(each.samples for each in fresh),
        preferences=preferences,
    )
    judges = train(drive, list_judges(context, (*state.rounds, finished)), f"classifiers of round {number + 1}")
    if judges is None:
        return None

    recall, macro = measure(drive, context, judges)
    marked = [
        each if each.parent else each.model_copy(update={"preferences": preferences}) for each in drawn.partitions
    ]
    return replace(
        state,
        judges=tuple(judges),
        recall=(*state.recall, recall),
        macro=(*state.macro, macro),
        seconds=_add_seconds(context.recipe, state.seconds, fresh),
        jobs=(*state.jobs, *drawn.jobs),
        partitions=(*state.partitions, *marked),
        own=(*state.own, *fresh),
        sizes=(*state.sizes, sizes),
        rounds=(*state.rounds, finished),
        drawn=(*state.drawn, _count_drawn(context.recipe, planned)),
        kept=(*state.kept, _count_kept(drive, context.recipe, preferences)),
    )


def prefer(drive: Drive, context: BuildContext, state: Steering, fresh: Sequence[BuiltPartition]) -> Receipt | None:
    """Select over all rounds without quotas, and choose among the accepted images of the last one."""
    selection = select_all(drive, request(context, {}), [*state.own, *fresh])
    if selection is None:
        return None
    job = PreferenceJob(
        build=context,
        attempt=len(state.rounds),
        concepts=tuple(each.concept for each in fresh),
        samples=tuple(each.samples for each in fresh),
        first=len(state.own),
        selection=selection,
        judge=state.judges[0],
        verifier=state.verifier,
    )

    def chain() -> Chain:
        """Choose among the accepted images."""
        return (yield Step(PREFERENCES, (job,), sum(each.samples.rows for each in fresh)))

    found: Receipt | None = drive.run([chain()], [PREFERENCES])[0]
    return found


def settle(drive: Drive, context: BuildContext, ready: Ready, state: Steering) -> Selected | None:
    """Select the kept images with the recipe that requests them; None if the selection is missing in a dry run."""
    names = [concept.name for concept in context.recipe.concepts]
    kept = dict(zip(names, map(sum, zip(*state.kept, strict=True)), strict=True))
    settled, partitions = request(context, kept), list(state.partitions)
    if (selection := select_all(drive, settled, partitions)) is None:
        return None
    accepted = count_accepted(read_table(drive.store, selection, ["concept", "accepted"]))
    return Selected(settled, list(state.jobs), partitions, selection, list(state.sizes), accepted, ready.unread)


def request(context: BuildContext, wanted: Mapping[str, int]) -> BuildContext:
    """Return the context with other requested images, at least one per concept; without a number as many as can be."""
    concepts = tuple(
        concept.model_copy(update={"wanted": max(1, wanted.get(concept.name, MOST_WANTED))})
        for concept in context.recipe.concepts
    )
    return context.model_copy(update={"recipe": context.recipe.model_copy(update={"concepts": concepts})})


def _count(planned: Sequence[PlannedPartition]) -> int:
    return sum(job.rows for job in planned)


def _count_drawn(recipe: Recipe, planned: Sequence[PlannedPartition]) -> PER_CONCEPT:
    return tuple(_count([job for job in planned if job.concept == each.name]) for each in recipe.concepts)


def _count_kept(drive: Drive, recipe: Recipe, preferences: Receipt) -> PER_CONCEPT:
    rows = read_table(drive.store, preferences, ["concept", "reason"]).to_pylist()
    kept = [row["concept"] for row in rows if row["reason"] is None]
    return tuple(kept.count(concept.name) for concept in recipe.concepts)


def _add_seconds(recipe: Recipe, before: Sequence[float], fresh: Sequence[BuiltPartition]) -> tuple[float, ...]:
    """Return the seconds per concept with those of further partitions: their stages' own work."""
    spent = dict.fromkeys((concept.name for concept in recipe.concepts), 0.0)
    for each in fresh:
        for receipt in (each.samples, each.masks, each.verdicts):
            spent[each.concept] += receipt.timings.get("compute", 0.0)
    return tuple(old + spent[concept.name] for old, concept in zip(before, recipe.concepts, strict=True))
