"""Find the class of a classifier for each concept of a recipe."""

from pathlib import Path

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import ResolvedModel, TeacherLabels
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.models.kinds import CLASSIFIER, naming, require_kind
from tailforge.tasks.models.teacher import Teacher, load_teacher


def find_labels(recipe: Recipe, generator: ResolvedModel, folder: Path) -> TeacherLabels:
    """Load the teacher and return its class of each concept.

    Errors: ModelError for a generator that cannot be inverted. RecipeError for a concept that is no class of the
    teacher, for two concepts of one class, and for more concepts than images in a batch.
    """
    # Every batch holds every concept.
    batch = recipe.engine.batch_size
    if len(recipe.concepts) > batch:
        raise RecipeError(
            f"engine.batch_size {batch}: a batch holds an image or more of each of "
            f"{count_of(len(recipe.concepts), 'concept')}; raise engine.batch_size or ask for fewer concepts"
        )

    # Code of the user may read weights of any kind.
    with naming("generator"):
        if recipe.teacher.module is None:
            advice = "; engine natural_inversion inverts a classifier, the other engines draw with a pipeline"
            require_kind(generator, "generator", CLASSIFIER, advice)
        teacher = load_teacher(generator, recipe.teacher, folder)

    # Two concepts of one class would make images of one distribution.
    labels: dict[str, int] = {}
    for concept in recipe.concepts:
        label = find_label(teacher, concept.name, "generator", by_place=True)
        if twin := next((name for name, known in labels.items() if known == label), None):
            raise RecipeError(
                f"concepts {twin!r} and {concept.name!r} are both class {label} of the teacher, "
                f"{teacher.class_names[label]!r}; leave one out"
            )
        labels[concept.name] = label
    return TeacherLabels(classes=len(teacher.class_names), labels=labels)


def find_label(classifier: Teacher, concept: str, role: str, *, by_place: bool) -> int:
    """Return a concept's class. `by_place`: a number may be the place of a class.

    `role`: the classifier's field in the recipe, for the error. Errors: RecipeError if the concept is no class.
    """
    try:
        return classifier.label(concept, by_place=by_place)
    except RecipeError as error:
        raise RecipeError(f"concept {concept!r}, {role}: {error}") from error
