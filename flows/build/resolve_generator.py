"""Find the generator of a build, or the base of one that the build adapts and the images that it learns."""

import tempfile
from functools import cache
from pathlib import Path

from tailforge.catalog.sources.generators import resolve_generator_model
from tailforge.catalog.sources.models import resolve_model
from tailforge.catalog.store import Store
from tailforge.flows.build.read_prompts import note_captions
from tailforge.flows.terminal.heartbeat import say
from tailforge.flows.terminal.training_progress import say_left_out
from tailforge.schemas.errors import StoreAccessError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.training.record import TrainedImages
from tailforge.tasks.models.generator_files import check_trainable
from tailforge.tasks.models.kinds import PIPELINE, require_kind
from tailforge.tasks.stages.adaptations import open_photographs

make_base = when_called("tasks.stages.work.adaptations", "make_base")


def resolve_generator(recipe: Recipe, folder: Path, store: str) -> tuple[ResolvedModel | None, TrainedImages | None]:
    """Return the generator and None, or the base of one that the build adapts and the images that it learns.

    Both are None for an engine that takes none. All images are read. A new network is written untrained to a temporary
    folder, since its tokenizer says what it reads. Errors: ModelError for a base without a UNet; StoreAccessError for
    an object store; ImagesError, NotFoundError.
    """
    if recipe.generator is None:
        return None, None
    if recipe.adaptation is None:
        assert recipe.source is not None
        return resolve_generator_model(recipe.source, folder, "generator"), None
    if not Store.open(store).is_local:
        raise StoreAccessError(
            f"generator.adapt trains inside the store, which must be a folder, and {store} is an object store; train "
            "by `tailforge train` and name the model's folder as generator, or build into a folder"
        )

    # The base, before the images are read.
    base = None
    if recipe.source is not None:
        base = resolve_model(recipe.source, folder, "generator.base")
        require_kind(base, "generator.base", PIPELINE)
        check_trainable(base, "generator.base")

    images = open_photographs(recipe, folder)
    say_left_out(images.origin, images.left_out)
    found = images.describe()
    base = base or make_base(recipe, images, found.digest, Path(_scratch().name) / found.digest)
    for note in note_captions(recipe.adaptation.learning, base, images):
        say(note)
    return base, found


@cache
def _scratch() -> "tempfile.TemporaryDirectory[str]":
    """Return a folder that ends with the process."""
    return tempfile.TemporaryDirectory(prefix="tailforge-")
