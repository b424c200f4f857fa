"""Plan the batches of an inversion. All choices are ours.

An inversion matches a whole batch to statistics over all classes of the teacher, so a batch must mix classes. A
partition holds one concept. So one run of batches makes one partition of *every* concept, for one round and prompt
source, whether a concept is short or not. The content of a run depends only on the concepts, so a larger request only
adds runs. A further round for one concept also makes samples of the others, which stay unused in the run's artifact.
"""

from collections.abc import Mapping, Sequence

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import InversionPlace, Prompt, TeacherLabels
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.tasks.methods.planning.samples import derive_seed, plan_slice

spread_labels = when_called("tasks.methods.natural_inversion.labels", "spread_labels")


def share_of_batch(batch_size: int, concepts: int, classes: int) -> int:
    """Return the images per concept of a batch, at least 1.

    Classes have equal shares, but the concepts together fill at least about half of a batch. So at most about half of
    the images remain unused.
    """
    return max(1, batch_size // min(classes, 2 * concepts))


def samples_per_run(engine: NaturalInversionEngine, teacher: TeacherLabels) -> int:
    """Return the samples of one concept that a run makes: the size of a partition."""
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
    """Return the images of run `part` of a round and prompt source, batch after batch.

    Images that nothing reads fill a batch up. Their labels spread evenly over the classes outside the recipe, or over
    all classes if the recipe names every class. They also replace concepts without prompts from this source.
    """
    # The samples of each concept are a slice of its plan.
    size = samples_per_run(engine, teacher)
    share = size // engine.batches
    numbers = range(part * size, (part + 1) * size)
    own = {name: plan_slice(recipe, name, prompts[name], attempt, source, numbers) for name in teacher.labels}

    # Cut the slices into batches, and fill each batch up.
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
    """Return `count` places whose images nothing reads."""
    # Prefer classes that no requested image of the batch has.
    named = {place.label for place in asked}
    others = [label for label in range(teacher.classes) if label not in named] or list(range(teacher.classes))

    # The batch's first sample decides labels and seeds, so the batch does not depend on others.
    first = asked[0].sample_id or ""
    labels = spread_labels(count, len(others), derive_seed(first, "filling labels"))
    return [
        InversionPlace(sample_id=None, seed=derive_seed(first, f"filling {number}"), label=others[label])
        for number, label in enumerate(labels)
    ]
