"""What the recipe's concepts are to the classifiers that it names; proves that those can be used."""

from pathlib import Path

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import ResolvedModel, TeacherLabels
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.models.pretrained import CLASSIFIER, naming, require_kind
from tailforge.tasks.models.teacher import Teacher, load_teacher, load_verifier
from tailforge.tasks.stages.verdicts import VERIFIER


def find_labels(recipe: Recipe, generator: ResolvedModel, folder: Path) -> TeacherLabels:
    """The teacher's class of each concept; loads the teacher.

    Errors: ModelError for a generator that cannot be inverted; RecipeError for a concept that is no class of it, or the
    same one as another, and for more concepts than a batch has images.
    """
    batch = recipe.engine.batch_size
    if len(recipe.concepts) > batch:
        raise RecipeError(
            f"engine.batch_size {batch}: a batch holds an image or more of each of "
            f"{count_of(len(recipe.concepts), 'concept')}; raise engine.batch_size or ask for fewer concepts"
        )
    with naming("generator"):
        if recipe.teacher.module is None:  # the user's own code may read weights of any kind
            advice = "; engine natural_inversion inverts a classifier, the other engines draw with a pipeline"
            require_kind(generator, "generator", CLASSIFIER, advice)
        teacher = load_teacher(generator, recipe.teacher, folder)
    labels: dict[str, int] = {}
    for concept in recipe.concepts:
        label = _label(teacher, concept.name, "generator", by_place=True)
        if twin := next((name for name, known in labels.items() if known == label), None):
            raise RecipeError(
                f"concepts {twin!r} and {concept.name!r} are both class {label} of the teacher, "
                f"{teacher.class_names[label]!r}; leave one out"
            )
        labels[concept.name] = label
    return TeacherLabels(classes=len(teacher.class_names), labels=labels)


def check_verifier(recipe: Recipe, verifier: ResolvedModel | None, generator: ResolvedModel, folder: Path) -> None:
    """Errors: ModelError for a verifier that cannot be loaded; RecipeError for the generator itself, and for a concept
    that it does not know."""
    if verifier is None or recipe.quality.verifier is None:
        return
    if verifier.digest == generator.digest:
        raise RecipeError(
            f"{VERIFIER}: {recipe.quality.verifier.model} is the generator itself, which made the images; name a "
            "classifier that had no part in them"
        )
    with naming(VERIFIER):
        if recipe.quality.verifier.module is None:
            require_kind(verifier, VERIFIER, CLASSIFIER)
        classifier = load_verifier(verifier, recipe.quality.verifier, folder, VERIFIER)
    for concept in recipe.concepts:
        _label(classifier, concept.name, VERIFIER, by_place=False)  # its places need not be the generator's


def _label(classifier: Teacher, concept: str, role: str, *, by_place: bool) -> int:
    try:
        return classifier.label(concept, by_place=by_place)
    except RecipeError as error:
        raise RecipeError(f"concept {concept!r}, {role}: {error}") from error
