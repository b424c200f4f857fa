"""Prepare a build: check recipe, models, references and store before any work starts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tailforge.catalog.metadata.generator_history import read_training
from tailforge.catalog.metadata.repairs import list_repairs
from tailforge.catalog.metadata.reviews import list_reviews
from tailforge.catalog.sources.generators import resolve_generator_model
from tailforge.catalog.sources.models import resolve_model
from tailforge.catalog.sources.recipes import RecipeFile
from tailforge.catalog.sources.references import digest_references, require_references
from tailforge.catalog.store import Store
from tailforge.catalog.user_paths import usable_path
from tailforge.flows.build.choose import open_recipe
from tailforge.flows.build.resolve_generator import resolve_generator
from tailforge.flows.build.resolve_teachers import check_verifier
from tailforge.flows.terminal.heartbeat import say
from tailforge.schemas.errors import StoreAccessError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, ResolvedImages, ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.allocation import GainAllocation
from tailforge.schemas.settings.fields import ModelSource
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.packing.transforms import load_transforms
from tailforge.tasks.models.generator_defaults import settle_defaults
from tailforge.tasks.models.generator_files import check_generator
from tailforge.tasks.models.generator_settings import check_text_to_image
from tailforge.tasks.models.guides import GUIDE, check_guide
from tailforge.tasks.models.kinds import CLIP, PIPELINE, check_scorer, naming, require_kind
from tailforge.tasks.stages.verdicts import VERIFIER

Request = tuple[str, str, tuple[str, ...]]  # recipe, store, overrides
build_pipeline = when_called("tasks.methods.packing.augment", "build_pipeline")
resolve_real = when_called("tasks.images.judged", "resolve_real")
_prepared: ContextVar[tuple[Request, BuildContext] | None] = ContextVar("prepared", default=None)


@contextmanager
def share_prepared(recipe: str, store: str, overrides: Sequence[str], context: BuildContext) -> Iterator[None]:
    """Let the flow within the `with` block use this context, so that models are digested once per build."""
    mark = _prepared.set(((recipe, store, tuple(overrides)), context))
    try:
        yield
    finally:
        _prepared.reset(mark)


def get_prepared(recipe: str, store: str, overrides: Sequence[str]) -> BuildContext:
    """Return the shared context of this request; without one, as in a run of a deployment, prepare it.

    Errors: those of `prepare_build`.
    """
    shared = _prepared.get()
    if shared is not None and shared[0] == (recipe, store, tuple(overrides)):
        return shared[1]
    return prepare_build(recipe, store, overrides)


def prepare_build(recipe: str, store: str, overrides: Sequence[str] = ()) -> BuildContext:
    """Return the context of a build: the recipe, which may be that of a version, with all models and references.

    It writes nothing except an empty store folder. Errors: a kind of UserError (schemas/errors.py).
    """
    file = open_recipe(recipe, store, overrides)
    for note in file.notes:
        say(note)
    build = resolve_build(file, store)
    opened, name = Store.open(build.store), build.recipe.name
    decided = {"repairs": list_repairs(opened, name), "reviews": list_reviews(opened, name)}
    build = build.model_copy(update=decided)
    engine_of(build.recipe).check_references(build.references)
    return build


def resolve_build(
    file: RecipeFile,
    store: str,
    *,
    with_references: bool = True,
    with_judges: bool = True,
    adapted: ResolvedModel | None = None,
) -> BuildContext:
    """Return the context of a validated recipe. Find its models and references, and open the store for writing.

    `adapted`: a generator that an earlier build adapted. Without it, a recipe that adapts its generator gets the base
    and the digest of the images to learn.

    Without references and their encoder, an engine that searches can only make images again from recorded noise.
    Without judges (quality.verifier and quality.scorer) images can be made, but not judged. Errors: UserError.
    """
    recipe, folder = file.recipe, file.folder
    references = _find_references(recipe, folder) if with_references else {}  # before any model is loaded
    models = _find_models(recipe, folder, store, adapted, with_references=with_references)
    recipe = settle_defaults(recipe, models["generator"])
    judges = _find_judges(recipe, models["generator"], folder) if with_judges else {}
    real = _find_real(recipe, folder) if with_judges else None
    if recipe.augmentation is not None:
        build_pipeline(recipe.augmentation)  # refuses unknown transforms and parameters
    address = _open_store(store)
    images = engine_of(recipe).find_images(recipe, folder)
    own = {"references": references, "real": real, "images": images}
    return BuildContext(store=address, recipe=recipe, folder=str(folder), **own, **models, **judges)


def _find_models(
    recipe: Recipe, folder: Path, store: str, adapted: ResolvedModel | None, *, with_references: bool
) -> dict[str, Any]:
    """Return the models that make images, prompts and masks, as fields of the context."""
    engine, expander = engine_of(recipe), recipe.prompts.language_model
    generator, photographs = (adapted, None) if adapted else resolve_generator(recipe, folder, store)
    language_model = _resolve(expander.source if expander else None, folder, "prompts.language_model.source")
    if generator is None:
        return {"generator": None, "language_model": language_model}
    teacher = engine.check_generator(recipe, generator, folder)
    return {
        "generator": generator,
        "photographs": photographs,
        "teacher": teacher,
        "generator_training": read_training(generator) if teacher is None else None,
        "guide": _find_guide(recipe, generator, folder),
        "annotator": _find_annotator(recipe, folder, adapted),
        "encoder": engine.find_encoder(recipe, generator, folder) if with_references else None,
        "language_model": language_model,
    }


def _find_judges(recipe: Recipe, generator: ResolvedModel | None, folder: Path) -> dict[str, ResolvedModel | None]:
    """Return the models that judge images, as fields of the context."""
    verifier = _resolve(recipe.quality.verifier, folder, VERIFIER)
    check_verifier(recipe, verifier, generator, folder)
    return {"verifier": verifier, "scorer": _find_clip(recipe.quality.scorer, folder, "quality.scorer")}


def _find_real(recipe: Recipe, folder: Path) -> ResolvedImages | None:
    """Return the real images that steer the allocation; None for a uniform one."""
    allocation = recipe.allocation
    if not isinstance(allocation, GainAllocation):
        return None
    load_transforms("allocation by gain")  # the training of its classifiers needs them
    found: ResolvedImages = resolve_real(allocation.real, recipe.concepts, folder)
    return found


def _open_store(store: str) -> str:
    """Create the store if it is missing and return its absolute address. Errors: StoreAccessError."""
    address = store if "://" in store else str(usable_path(store, "store", StoreAccessError).resolve())
    if not Store.open(address, create=True).is_lasting:
        raise StoreAccessError(
            f"store {store!r} is in memory and ends with the process; give a folder or s3://bucket/folder by --store"
        )
    return address


def _find_references(recipe: Recipe, folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the sha256 of each concept's photographs. For an engine that searches, open them to check them."""
    find = require_references if recipe.engine.reads_references else digest_references
    return {concept.name: find(folder, concept) for concept in recipe.concepts if concept.references is not None}


def _resolve(source: ModelSource | None, folder: Path, field: str) -> ResolvedModel | None:
    """Return the model that a field of the recipe names; None without one."""
    return None if source is None else resolve_model(source, folder, field)


def _find_guide(recipe: Recipe, generator: ResolvedModel, folder: Path) -> ResolvedModel | None:
    """Return the guide after a check that it fits the generator; None without one."""
    found = _resolve(recipe.guide, folder, GUIDE)
    if found is not None:
        with naming(GUIDE):
            require_kind(found, GUIDE, PIPELINE)
            check_generator(found)
            check_text_to_image(found, GUIDE)
        check_guide(generator, found)
    return found


def _find_annotator(recipe: Recipe, folder: Path, adapted: ResolvedModel | None) -> ResolvedModel | None:
    """Return the model of renoised attention; None for other kinds of annotation."""
    if adapted is not None and recipe.annotator is not None and recipe.annotation.model is None:
        return adapted
    field = "annotation.model" if recipe.annotation.model else "generator"
    found = None if recipe.annotator is None else resolve_generator_model(recipe.annotator, folder, field)
    if found is not None:
        with naming(field):
            require_kind(found, field, PIPELINE)
            check_generator(found)
            check_text_to_image(found, field)
    return found


def _find_clip(source: ModelSource | None, folder: Path, field: str) -> ResolvedModel | None:
    """Return the CLIP model that a field of the recipe names; None without one."""
    found = _resolve(source, folder, field)
    if found is not None:
        with naming(field):
            require_kind(found, field, CLIP)
            check_scorer(found)
    return found
