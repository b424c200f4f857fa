"""Find the CLIP model of a search, and check that the generator's sampler suits a search."""

from pathlib import Path

from tailforge.catalog.sources.models import resolve_model
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.methods.seed_select.determinism import check_deterministic
from tailforge.tasks.models.generator_files import saved_scheduler
from tailforge.tasks.models.kinds import CLIP, check_scorer, naming, require_kind


def resolve_encoder(recipe: Recipe, folder: Path, own: str) -> ResolvedModel:
    """Find and check the CLIP model of a search. `own`: its place in the recipe; without it, that of quality.scorer.

    Errors: ModelError, RecipeError.
    """
    # The search may share the model of the quality scores.
    assert recipe.encoder is not None
    field = "quality.scorer" if recipe.encoder == recipe.quality.scorer else own
    found = resolve_model(recipe.encoder, folder, field)
    with naming(field):
        require_kind(found, field, CLIP)
        check_scorer(found)
    return found


def check_scheduler(recipe: Recipe, generator: ResolvedModel) -> None:
    """Check that the sampler makes equal images from equal noise. A hub model is checked when it loads.

    Errors: RecipeError; ModelError for a damaged file.
    """
    sampling = recipe.engine.sampling
    if sampling is None or sampling.scheduler != "model" or (saved := saved_scheduler(generator)) is None:
        return
    check_deterministic(str(saved.get("_class_name")), saved)
