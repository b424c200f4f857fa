"""Which samples an inversion makes together. All choices are ours.

A batch is matched as a whole to statistics over all of the teacher's classes, so it must mix them, while a partition
of the chain holds one concept. So one run of batches makes the partitions of one round, prompt source and number of
*all* concepts, wanted or not. What it holds follows from the concepts and from nothing else: more images are an
addition, and a concept that fell short is made among the others' next samples, which stay in the run's artifact.
"""

from collections.abc import Mapping, Sequence

from tailforge.schemas.jobs import InversionPlace, Prompt, TeacherLabels
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.tasks.methods.natural_inversion.labels import spread_labels
from tailforge.tasks.methods.planning.samples import derive_seed, plan_slice


def share_of_batch(batch_size: int, concepts: int, classes: int) -> int:
    """Images of each concept in a batch: as many as of any class, but half of the batch where few classes are asked
    for, so that no more than about half of it is thrown away. A batch has an image or more for each concept."""
    return max(1, batch_size // min(classes, 2 * concepts))


def samples_per_run(engine: NaturalInversionEngine, teacher: TeacherLabels) -> int:
    """Samples of one concept that a run makes: its partition."""
    return engine.batches * share_of_batch(engine.batch_size, len(teacher.labels), teacher.classes)


def plan_run(
    recipe: Recipe,
    engine: NaturalInversionEngine,
    teacher: TeacherLabels,
    prompts: Mapping[str, Sequence[Prompt]],
    attempt: int,
    source: str,
    part: int,
) -> tuple[InversionPlace, ...]:
    """The images of run `part` of a round and prompt source, batch after batch.

    A batch is filled up by labels of other classes, or of all where the recipe names every class, spread as evenly as
    they can be; so is the place of a concept without prompts from this source.
    """
    size = samples_per_run(engine, teacher)
    share = size // engine.batches
    numbers = range(part * size, (part + 1) * size)
    own = {name: plan_slice(recipe, name, prompts[name], attempt, source, numbers) for name in teacher.labels}
    places: list[InversionPlace] = []
    for start in range(0, size, share):
        asked = [
            InversionPlace(sample_id=sample.sample_id, seed=sample.seed, label=teacher.labels[name])
            for name, samples in own.items()
            for sample in samples[start : start + share]
        ]
        places += [*asked, *_fill(asked, engine.batch_size - len(asked), teacher)]
    return tuple(places)


def _fill(asked: Sequence[InversionPlace], count: int, teacher: TeacherLabels) -> list[InversionPlace]:
    """`count` places whose images nobody reads."""
    named = {place.label for place in asked}
    others = [label for label in range(teacher.classes) if label not in named] or list(range(teacher.classes))
    first = asked[0].sample_id or ""
    labels = spread_labels(count, len(others), derive_seed(first, "filling labels"))
    return [
        InversionPlace(sample_id=None, seed=derive_seed(first, f"filling {number}"), label=others[label])
        for number, label in enumerate(labels)
    ]
