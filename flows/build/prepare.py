"""Everything that can be refused is refused here, before any work starts: recipe, models, references, store."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from tailforge.catalog.metadata.generator_history import read_training
from tailforge.catalog.metadata.repairs import list_repairs
from tailforge.catalog.metadata.reviews import list_reviews
from tailforge.catalog.sources.models import resolve_model
from tailforge.catalog.sources.recipes import RecipeFile
from tailforge.catalog.sources.references import digest_references, require_references
from tailforge.catalog.store import Store
from tailforge.catalog.user_paths import usable_path
from tailforge.flows.build.choose import open_recipe
from tailforge.flows.build.resolve_teachers import check_verifier
from tailforge.flows.terminal.heartbeat import say
from tailforge.schemas.errors import StoreAccessError
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.fields import ModelSource
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.packing.augment import build_pipeline
from tailforge.tasks.models.clip import check_scorer
from tailforge.tasks.models.generator_files import check_generator
from tailforge.tasks.models.guides import GUIDE, check_guide
from tailforge.tasks.models.pretrained import CLIP, PIPELINE, naming, require_kind
from tailforge.tasks.stages.verdicts import VERIFIER

Request = tuple[str, str, tuple[str, ...]]  # recipe, store, overrides
_prepared: ContextVar[tuple[Request, BuildContext] | None] = ContextVar("prepared", default=None)


@contextmanager
def hand_on(recipe: str, store: str, overrides: Sequence[str], context: BuildContext) -> Iterator[None]:
    """Let the flow inside take this context, so that a build reads its recipe and digests its models once."""
    mark = _prepared.set(((recipe, store, tuple(overrides)), context))
    try:
        yield
    finally:
        _prepared.reset(mark)


def take_prepared(recipe: str, store: str, overrides: Sequence[str]) -> BuildContext:
    """Return the context handed on for this request; without one, as in a run of a deployment, prepare it."""
    handed = _prepared.get()
    if handed is not None and handed[0] == (recipe, store, tuple(overrides)):
        return handed[1]
    return prepare_build(recipe, store, overrides)


def prepare_build(recipe: str, store: str, overrides: Sequence[str] = ()) -> BuildContext:
    """Read a recipe, or that of a version (dataset@version), and find everything it names.

    Errors: UserError of the fitting kind (schemas/errors.py); nothing was written but an empty store folder.
    """
    file = open_recipe(recipe, store, overrides)
    for note in file.notes:
        say(note)
    build = resolve_build(file, store)
    kept, name = Store.open(build.store), build.recipe.name
    decided = {"repairs": list_repairs(kept, name), "reviews": list_reviews(kept, name)}
    build = build.model_copy(update=decided)
    engine_of(build.recipe).check_references(build.references)
    return build


def resolve_build(
    file: RecipeFile, store: str, *, with_references: bool = True, with_judges: bool = True
) -> BuildContext:
    """Find the models and references of a validated recipe and prove that the store can be written.

    Without references (and the encoder that compares with them) an engine that searches can make images again only from
    noise that was kept. Without judges, quality.verifier and quality.scorer, images can be made but not judged.
    """
    recipe, folder = file.recipe, file.folder
    engine = engine_of(recipe)
    references = _find_references(recipe, folder) if with_references else {}  # before any model is loaded
    generator = resolve_model(recipe.generator, folder, "generator")
    teacher = engine.check_generator(recipe, generator, folder)
    guide = _find_guide(recipe, generator, folder)
    annotator = _find_annotator(recipe, folder)
    verifier = _resolve(recipe.quality.verifier if with_judges else None, folder, VERIFIER)
    check_verifier(recipe, verifier, generator, folder)
    scorer = _find_clip(recipe.quality.scorer if with_judges else None, folder, "quality.scorer")
    if recipe.augmentation is not None:
        build_pipeline(recipe.augmentation)  # refuses unknown transforms and parameters
    encoder = engine.find_encoder(recipe, generator, folder) if with_references else None
    expander = recipe.prompts.language_model
    address = store if "://" in store else str(usable_path(store, "store", StoreAccessError).resolve())
    if not Store.open(address, create=True).is_lasting:
        raise StoreAccessError(
            f"store {store!r} lies in memory and ends with the process; give a folder or s3://bucket/folder by --store"
        )
    return BuildContext(
        store=address,
        recipe=recipe,
        folder=str(folder),
        generator=generator,
        generator_training=read_training(generator) if teacher is None else None,
        guide=guide,
        scorer=scorer,
        encoder=encoder,
        verifier=verifier,
        annotator=annotator,
        language_model=_resolve(expander.source if expander else None, folder, "prompts.language_model.source"),
        references=references,
        teacher=teacher,
    )


def _find_references(recipe: Recipe, folder: Path) -> dict[str, tuple[str, ...]]:
    """sha256 of the photographs of each concept that names some; an engine that searches opens them too."""
    find = require_references if recipe.engine.reads_references else digest_references
    return {concept.name: find(folder, concept) for concept in recipe.concepts if concept.references is not None}


def _resolve(source: ModelSource | None, folder: Path, field: str) -> ResolvedModel | None:
    return None if source is None else resolve_model(source, folder, field)


def _find_guide(recipe: Recipe, generator: ResolvedModel, folder: Path) -> ResolvedModel | None:
    found = _resolve(recipe.guide, folder, GUIDE)
    if found is not None:
        with naming(GUIDE):
            require_kind(found, GUIDE, PIPELINE)
            check_generator(found)
        check_guide(generator, found)
    return found


def _find_annotator(recipe: Recipe, folder: Path) -> ResolvedModel | None:
    field = "annotation.model" if recipe.annotation.model else "generator"
    found = _resolve(recipe.annotator, folder, field)
    if found is not None:
        with naming(field):
            require_kind(found, field, PIPELINE)
            check_generator(found)
    return found


def _find_clip(source: ModelSource | None, folder: Path, field: str) -> ResolvedModel | None:
    found = _resolve(source, folder, field)
    if found is not None:
        with naming(field):
            require_kind(found, field, CLIP)
            check_scorer(found)
    return found
