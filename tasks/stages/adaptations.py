"""Stage `adaptations`: a generator, adapted to images before a build draws with it.

The model's folder and the work of an unfinished training are beside the table, so the store must be on a local disk.
"""

import re
import shutil
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from tailforge.catalog.metadata.generator_history import read_training
from tailforge.catalog.sources.models import digest_model
from tailforge.catalog.store import Store
from tailforge.schemas.errors import DamagedArtifactError, ImagesError, NotFoundError, VerificationError
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.licences import UNKNOWN
from tailforge.schemas.tables import ADAPTATIONS
from tailforge.schemas.training.generator import Adaptation, AdaptedSource, GeneratorTraining
from tailforge.schemas.under_way import tell
from tailforge.tasks.artifacts.contract import Address, Made, receipt_uri
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.images.captioned import CaptionedImages, open_captioned
from tailforge.tasks.methods.generator_training.train import VERSION
from tailforge.tasks.models.devices import keep_threads
from tailforge.tasks.training.export_generator import export_generator
from tailforge.tasks.training.generator import fit_generator, read_measurements
from tailforge.tasks.training.generator_stages import Work, encode_images
from tailforge.tasks.training.new_generator import make_generator
from tailforge.tasks.training.runs import hold_folder

MODEL, WORK = "generator", "work"  # folders beside the table
FINGERPRINT = re.compile(r"[0-9a-f]{32}")
BACKWARD = 2  # passes that a backward pass costs


def locate(build: BuildContext) -> Address:
    """Return the address of the adapted generator. `build.generator` must be the base or the untrained network."""
    assert build.photographs is not None
    adapt = _require_adaptation(build.recipe)
    learning = adapt.learning.model_dump(mode="json", exclude={"steps", "checkpoint_every_s", "threads"})

    # Where the images are found does not matter.
    return Address(
        STAGE,
        part=0,
        label="adaptation",
        settings={
            "training": adapt.model_dump(mode="json", include={"start", "weights", "lora", "structure"}),
            "learning": learning,
            "steps": adapt.learning.steps,
            "threads": adapt.learning.threads,
            "fit": adapt.images.fit,
            "network": build.recipe.source is None,
            "validation": adapt.validation.model_dump(mode="json"),
            "method": VERSION,
            "passes": count_passes(adapt),
        },
        inputs={"images": build.photographs.digest},
        models={"base": build.generator.digest},
    )


def count_measurements(adapt: Adaptation) -> int:
    """Return the rows of the table: the measurements during the training."""
    return -(-adapt.learning.steps // adapt.validation.every)


def count_passes(adapt: Adaptation) -> int:
    """Return the denoiser passes per row, for estimates; a backward pass counts as `BACKWARD` passes."""
    return (1 + BACKWARD) * adapt.learning.batch * adapt.learning.steps // count_measurements(adapt)


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
    base, read = build.generator, build.photographs.digest
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


def open_photographs(recipe: Recipe, folder: Path) -> CaptionedImages:
    """Return the images that the generator is adapted to. Errors: NotFoundError, ImagesError."""
    adapt = _require_adaptation(recipe)
    return open_captioned(adapt.images, folder, adapt.learning.seed)


def make_base(recipe: Recipe, images: CaptionedImages, images_digest: str, folder: Path) -> ResolvedModel:
    """Return the untrained generator of a recipe with a new network, made once in a folder.

    Errors: ImagesError for images of another size.
    """
    assert isinstance(recipe.generator, AdaptedSource)
    assert recipe.generator.network is not None
    seed = recipe.generator.adapt.learning.seed
    return make_generator(folder, recipe.generator.network, images, images_digest, seed)


def use_adapted(store: Store, build: BuildContext, receipt: Receipt) -> BuildContext:
    """Return the context of a build that draws with the adapted generator. Errors: as `open_adapted`; ModelError."""
    model = open_adapted(store, receipt.fingerprint)
    training = read_training(model)
    if training is not None:
        own = {"name": f"{build.recipe.name}-generator", "images": build.photographs}
        training = training.model_copy(update=own)
    annotation = build.recipe.annotation
    asks_it = annotation.kind == "renoised_attention" and annotation.model is None
    return build.model_copy(
        update={
            "generator": model,
            "generator_training": training,
            "annotator": model if asks_it else build.annotator,
            "adapted": receipt.fingerprint,
        }
    )


def open_adapted(store: Store, fingerprint: str) -> ResolvedModel:
    """Return the model of a finished adaptation after a check of its files' digest.

    Errors: NotFoundError if it is not in the store; DamagedArtifactError for other bytes, after which the next build
    trains again; VerificationError for an impossible fingerprint.
    """
    if not FINGERPRINT.fullmatch(fingerprint):
        raise VerificationError(f"{fingerprint!r:.80} names no adaptation: it is no fingerprint of 32 hex digits")
    uri = f"artifacts/{STAGE.name}/{fingerprint}/part-00000.parquet"
    try:
        receipt = Receipt.model_validate_json(store.read(receipt_uri(uri)))
        expected = receipt.details["digest"]
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise NotFoundError(
            f"the adapted generator {store.address(uri)} is not in the store; build the recipe again"
        ) from error

    folder = Path(store.path(uri)).parent / MODEL
    if not folder.is_dir() or (found := digest_model(folder)) != expected:
        store.remove(receipt_uri(uri))
        raise DamagedArtifactError(
            f"the adapted generator {folder} is damaged: its files are not those that were written; run the same "
            "command again, it is trained anew"
        )
    return ResolvedModel(path=str(folder), digest=found)


def _require_adaptation(recipe: Recipe) -> Adaptation:
    adapt = recipe.adaptation
    assert adapt is not None
    return adapt


def _name_training(recipe: Recipe) -> GeneratorTraining:
    """Return the training as `tailforge train` takes it; its name is that of the model's folder."""
    adapt = _require_adaptation(recipe)
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


STAGE = Stage(
    name="adaptations",
    version="1",
    schema=ADAPTATIONS,
    costing=("training", "learning", "fit"),
    locate=locate,
    produce=produce,
    hold=hold_place,
    uses_generator=True,
)
