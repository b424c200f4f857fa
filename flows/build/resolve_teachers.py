"""Check that the recipe's verifier is usable and has a label for every concept."""

from pathlib import Path

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.models.kinds import CLASSIFIER, naming, require_kind
from tailforge.tasks.stages.verdicts import VERIFIER

find_label = when_called("tasks.engines.work.teacher_labels", "find_label")
load_verifier = when_called("tasks.models.teacher", "load_verifier")


def check_verifier(
    recipe: Recipe, verifier: ResolvedModel | None, generator: ResolvedModel | None, folder: Path
) -> None:
    """Refuse an unusable verifier.

    Errors: ModelError if it cannot be loaded; RecipeError if it is the generator or has no label for a concept.
    """
    if verifier is None or recipe.quality.verifier is None:
        return

    if generator is not None and verifier.digest == generator.digest:
        raise RecipeError(
            f"{VERIFIER}: {recipe.quality.verifier.model} is the generator itself, which made the images; name a "
            "classifier that had no part in them"
        )
    with naming(VERIFIER):
        if recipe.quality.verifier.module is None:
            require_kind(verifier, VERIFIER, CLASSIFIER)
        classifier = load_verifier(verifier, recipe.quality.verifier, folder, VERIFIER)
    for concept in recipe.concepts:
        find_label(classifier, concept.name, VERIFIER, by_place=False)  # its labels may have another order
