"""Count the work of a build's first round from the recipe and its prompts, before the build starts."""

from collections.abc import Mapping
from dataclasses import dataclass

from tailforge.catalog.store import Store
from tailforge.flows.build.order import PARTITION
from tailforge.flows.build.plan_partitions import PlannedPartition, list_runs, plan_partitions
from tailforge.flows.build.read_prompts import ReadablePrompts, filter_readable
from tailforge.flows.build.rounds import first_sizes
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, Prompt
from tailforge.schemas.settings.allocation import GainAllocation
from tailforge.tasks.artifacts.contract import find_receipt, read_table
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.planning.expand_prompts import expand_prompts
from tailforge.tasks.stages.allocation import STAGE as ALLOCATION
from tailforge.tasks.stages.augmented import STAGE as AUGMENTED
from tailforge.tasks.stages.judges import STAGE as JUDGES
from tailforge.tasks.stages.preferences import STAGE as PREFERENCES
from tailforge.tasks.stages.prompts import STAGE as PROMPTS
from tailforge.tasks.stages.prompts import read_prompts
from tailforge.tasks.stages.selection import STAGE as SELECTION

load_wordnet = when_called("tasks.models.lexicon", "load_wordnet")
Work = dict[str, tuple[int, int]]  # (steps, rows) by stage


@dataclass(frozen=True)
class Forecast:
    """Images of the first round, and steps and rows of each stage, finished or not. `readable`: the prompts.

    Before a language model has written its prompts, only the images are known; whole batches may add some.
    """

    images: int
    steps: Mapping[str, int]
    rows: Mapping[str, int]
    readable: ReadablePrompts | None = None


def forecast_build(store: Store, context: BuildContext) -> Forecast:
    """Count the images, steps and rows of a build's first round. Errors: RecipeError if a concept has no prompt."""
    readable = filter_known(store, context)
    if readable is None:
        return Forecast(sum(first_sizes(context.recipe).values()), {}, {})

    # Work before the samples, then that of each partition, then that of the whole build.
    prompts = readable.prompts
    jobs = list(plan_partitions(context, prompts, 0, first_sizes(context.recipe)))
    images = sum(job.rows for job in jobs)
    work = _count_before(context, prompts, jobs) | dict.fromkeys(
        (stage.name for stage in PARTITION), (len(jobs), images)
    )
    work[SELECTION.name] = (1, images)
    if context.recipe.augmentation is not None:
        work[AUGMENTED.name] = (len(jobs), sum(concept.wanted for concept in context.recipe.concepts))
    return Forecast(images, {s: n for s, (n, _) in work.items()}, {s: rows for s, (_, rows) in work.items()}, readable)


def find_prompts(store: Store, context: BuildContext) -> dict[str, list[Prompt]] | None:
    """Return the prompts of every concept that the generator reads; None if a language model has yet to write some."""
    readable = filter_known(store, context)
    return None if readable is None else readable.prompts


def filter_known(store: Store, context: BuildContext) -> ReadablePrompts | None:
    """Return the prompts, from receipts or expanded here, as the generator reads them.

    Return None if a language model has yet to write some. Errors: RecipeError if the generator reads no prompt of a
    concept.
    """
    found = {}
    for concept in context.recipe.concepts:
        receipt = find_receipt(store, PROMPTS.locate(context, concept.name))
        if receipt is not None:
            found[concept.name] = read_prompts(read_table(store, receipt))
        elif context.recipe.prompts.language_model is not None:
            return None
        else:
            lexicon = load_wordnet() if context.recipe.prompts.wordnet else None
            found[concept.name] = expand_prompts(context.recipe, concept, lexicon=lexicon)
    return filter_readable(context, found)


def _count_before(context: BuildContext, prompts: dict[str, list[Prompt]], jobs: list[PlannedPartition]) -> Work:
    """Return the work beside the samples: prompts, preparations and rounds of the engine, and steering."""
    engine = engine_of(context.recipe)
    work: Work = {PROMPTS.name: (len(prompts), 0)}
    for each in engine.preparations:
        own = each.list_jobs(context, prompts)
        work[each.stage] = (len(own), sum(map(each.count_rows, own)))
    allocation = context.recipe.allocation
    if isinstance(allocation, GainAllocation):  # the verifier, and the classifiers before and after the first round
        work |= {JUDGES.name: (1 + 2 * allocation.seeds, 0), ALLOCATION.name: (2, 0), PREFERENCES.name: (1, 0)}
    if engine.round is not None:
        work[engine.round.stage] = (len(list_runs(jobs)), sum(job.rows for job in jobs))
    return work
