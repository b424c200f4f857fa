"""List the stages in the order of a build. A stage that an engine names is one file and one line here.

A stage of every recipe also needs its step in flows/build/order.py.
"""

from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.stages import (
    adaptations,
    aims,
    allocation,
    augmented,
    inversions,
    judges,
    masks,
    preferences,
    prompts,
    samples,
    seeds,
    selection,
    shard_plan,
    shards,
    verdicts,
)

_stages: list[Stage] = []
# Stages of builds that are steered.
STEERING: tuple[Stage, ...] = (judges.STAGE, allocation.STAGE, preferences.STAGE)


def register(stage: Stage, before: Stage | None = None) -> None:
    """Add a stage to the order of a build, at the end or before another stage. Errors: ValueError."""
    _stages.insert(len(_stages) if before is None else _stages.index(before), stage)


def list_stages() -> tuple[Stage, ...]:
    """Return the stages of a build, in order."""
    return tuple(_stages)


def stage_names() -> tuple[str, ...]:
    """Return the names of the stages of a build, in order."""
    return tuple(stage.name for stage in _stages)


def find_stage(name: str) -> Stage:
    """Return the stage of a build with that name. Errors: KeyError."""
    return {stage.name: stage for stage in _stages}[name]


def generator_stages() -> set[str]:
    """Return the names of the stages that run the generator, which handles one batch at a time per process."""
    return {stage.name for stage in _stages if stage.uses_generator}


def list_upstream() -> tuple[Stage, ...]:
    """Return the stages before the images. Versions depend on their results without listing them.

    An adaptation is listed.
    """
    return tuple(stage for stage in _stages[: _stages.index(samples.STAGE)] if stage is not adaptations.STAGE)


register(adaptations.STAGE)
register(prompts.STAGE)
register(aims.STAGE)
register(seeds.STAGE)
register(inversions.STAGE)
register(judges.STAGE)
register(allocation.STAGE)
register(samples.STAGE)
register(masks.STAGE)
register(verdicts.STAGE)
register(preferences.STAGE)
register(selection.STAGE)
register(augmented.STAGE)
register(shard_plan.STAGE)
register(shards.STAGE)
