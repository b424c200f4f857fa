"""Adapt a generator to images, for stage `adaptations`."""

import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from tailforge.catalog.store import Store
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.licences import UNKNOWN
from tailforge.schemas.tables import ADAPTATIONS
from tailforge.schemas.training.generator import Adaptation, AdaptedSource, GeneratorTraining
from tailforge.schemas.under_way import tell
from tailforge.tasks.artifacts.contract import Made
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.images.captioned import CaptionedImages
from tailforge.tasks.models.devices import keep_threads
from tailforge.tasks.stages.adaptations import MODEL, open_photographs, require_adaptation
from tailforge.tasks.training.export_generator import export_generator
from tailforge.tasks.training.generator import fit_generator, read_measurements
from tailforge.tasks.training.generator_stages import Work, encode_images
from tailforge.tasks.training.new_generator import make_generator
from tailforge.tasks.training.runs import hold_folder

WORK = "work"  # folder beside the table


def produce(workplace: Workplace, build: BuildContext) -> Made:
    """Train from the last checkpoint on, and write the model's folder and the ADAPTATIONS.

    Errors: ImagesError if the images changed since the
    build was planned; TrainingError, after which the checkpoint stays.
    """
    started, store, address = time.perf_counter(), workplace.store, workplace.address
    place = Path(store.path(address.uri)).parent
    images = open_photographs(build.recipe, Path(build.folder or "."))
    if build.photographs is None or images.describe() != build.photographs:
        raise ImagesError(f"{images.origin} changed after this build was planned; run the same command again")

    # The same training as that of `tailforge train`.
    recipe = _name_training(build.recipe)
    base, read = build.require_generator(), build.photographs.digest
    if recipe.network is not None:
        base = make_base(build.recipe, images, read, place / WORK)
    work = Work(place / WORK, recipe, base, read, logs=False)
    with keep_threads():
        encode_images(work, images)
        measures = fit_generator(work, lambda step, loss: tell("step", step, recipe.learning.steps))
    # The work does not depend on the licence, which another build may state.
    made = export_generator(work, place, build.photographs.model_copy(update={"license": UNKNOWN}), measures)

    table = pa.Table.from_pylist(read_measurements(work), ADAPTATIONS)
    shutil.rmtree(work.folder)
    seconds = max(60 * float(measures["minutes"]), time.perf_counter() - started)
    return Made(table, {"compute": seconds}, {"digest": made["digest"], "files": _list_files(store, place / MODEL)})


def hold_place(workplace: Workplace) -> AbstractContextManager[None]:
    """Hold the training's folder, so that a second build waits and then finds the receipt of the first."""
    return hold_folder(Path(workplace.store.path(workplace.address.uri)).parent, wait=True)


def make_base(recipe: Recipe, images: CaptionedImages, images_digest: str, folder: Path) -> ResolvedModel:
    """Return the untrained generator of a recipe with a new network, made once in a folder.

    Errors: ImagesError for images of another size.
    """
    assert isinstance(recipe.generator, AdaptedSource)
    assert recipe.generator.network is not None
    seed = recipe.generator.adapt.learning.seed
    return make_generator(folder, recipe.generator.network, images, images_digest, seed)


def _name_training(recipe: Recipe) -> GeneratorTraining:
    """Return the training as `tailforge train` takes it; its name is that of the model's folder."""
    adapt = require_adaptation(recipe)
    settings = {name: getattr(adapt, name) for name in Adaptation.model_fields}
    network = recipe.generator.network if isinstance(recipe.generator, AdaptedSource) else None
    return GeneratorTraining(kind="generator", name=MODEL, base=recipe.source, network=network, **settings)


def _list_files(store: Store, folder: Path) -> dict[str, Any]:
    """Return path in the store and bytes of the model's files, by their path in the folder."""
    root = Path(store.path(""))
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): {"uri": str(file.relative_to(root)), "bytes": file.stat().st_size}
        for file in files
    }
