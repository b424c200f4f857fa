"""Stage `adaptations`: a generator, adapted to images before a build draws with it.

The model's folder and the work of an unfinished training are beside the table, so the store must be on a local disk.
"""

import re
from pathlib import Path

from tailforge.catalog.metadata.generator_history import read_training
from tailforge.catalog.sources.models import digest_model
from tailforge.catalog.store import Store
from tailforge.schemas.errors import DamagedArtifactError, NotFoundError, VerificationError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.tables import ADAPTATIONS
from tailforge.schemas.training.generator import Adaptation
from tailforge.tasks.artifacts.contract import Address, receipt_uri
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.images.captioned import CaptionedImages, open_captioned
from tailforge.tasks.methods.generator_training import VERSION

MODEL = "generator"  # folder beside the table
FINGERPRINT = re.compile(r"[0-9a-f]{32}")
BACKWARD = 2  # passes that a backward pass costs


def locate(build: BuildContext) -> Address:
    """Return the address of the adapted generator. `build.generator` must be the base or the untrained network."""
    assert build.photographs is not None
    adapt = require_adaptation(build.recipe)
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
        models={"base": build.require_generator().digest},
    )


def count_measurements(adapt: Adaptation) -> int:
    """Return the rows of the table: the measurements during the training."""
    return -(-adapt.learning.steps // adapt.validation.every)


def count_passes(adapt: Adaptation) -> int:
    """Return the denoiser passes per row, for estimates; a backward pass counts as `BACKWARD` passes."""
    return (1 + BACKWARD) * adapt.learning.batch * adapt.learning.steps // count_measurements(adapt)


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


def require_adaptation(recipe: Recipe) -> Adaptation:
    """Return the adaptation of a recipe that has one."""
    adapt = recipe.adaptation
    assert adapt is not None
    return adapt


def open_photographs(recipe: Recipe, folder: Path) -> CaptionedImages:
    """Return the images that the generator is adapted to. Errors: NotFoundError, ImagesError."""
    adapt = require_adaptation(recipe)
    return open_captioned(adapt.images, folder, adapt.learning.seed)


STAGE = Stage(
    name="adaptations",
    version="1",
    schema=ADAPTATIONS,
    costing=("training", "learning", "fit"),
    locate=locate,
    produce=when_called("tasks.stages.work.adaptations", "produce"),
    hold=when_called("tasks.stages.work.adaptations", "hold_place"),
    uses_generator=True,
)
