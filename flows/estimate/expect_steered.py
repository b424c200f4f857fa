"""Predict the further work of a steered build. All choices are ours.

What a round will measure is not known, so the least is no further round, and the most is the whole budget.
"""

from collections.abc import Mapping, Sequence

from tailforge.flows.estimate.rates import NOTHING, Interval
from tailforge.flows.estimate.simulate_rounds import Further, Standing, Yield
from tailforge.schemas.jobs import BuildContext, Prompt
from tailforge.schemas.settings.allocation import GainAllocation
from tailforge.tasks.stages.allocation import STAGE as ALLOCATION
from tailforge.tasks.stages.judges import STAGE as JUDGES
from tailforge.tasks.stages.preferences import STAGE as PREFERENCES


def expect_steered(
    context: BuildContext,
    prompts: Mapping[str, Sequence[Prompt]],
    standing: Standing,
    yields: Mapping[str, Yield],
    kept: float,
) -> Further:
    """Return the further rounds of a steered build, from none to the whole budget. Arguments: as `expect_further`."""
    allocation, recipe = context.recipe.allocation, context.recipe
    assert isinstance(allocation, GainAllocation)

    # Images that the budget leaves; one in seconds is bounded by the requested images alone.
    planned = sum(standing.planned.values())
    most = allocation.budget.images or sum(concept.wanted for concept in recipe.concepts)
    most = min(most, planned + allocation.round * (allocation.rounds - standing.attempt - 1))
    images = Interval(float(max(most - planned, 0)), 0.0, float(max(most - planned, 0)))

    # Every image of a round may be kept, and each batch may be a partition.
    share = sum(each.share for each in yields.values()) / max(len(yields), 1) * kept * allocation.keep
    accepted = Interval(*((planned + more) * share for more in (images.value, images.low, images.high)))
    started = float(standing.attempt + 1)
    rounds = Interval(*(started + more / allocation.round for more in (images.value, images.low, images.high)))
    return Further(images.scale(1 / recipe.engine.batch_size), images, accepted, rounds)


def count_steering(context: BuildContext, images: Interval) -> dict[str, Interval]:
    """Return the steps of judges, allocation and preferences for further `images`; none for a build without them."""
    allocation = context.recipe.allocation
    if not isinstance(allocation, GainAllocation) or images == NOTHING:
        return {}
    rounds = images.scale(1 / allocation.round)
    return {JUDGES.name: rounds.scale(allocation.seeds), ALLOCATION.name: rounds, PREFERENCES.name: rounds}
