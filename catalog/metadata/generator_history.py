"""Read the record of a generator's training in its folder, and describe it in words."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from tailforge.schemas.documents.foreign_json import describe_damage, parse_json
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.licences import UNKNOWN, describe_licence
from tailforge.schemas.training.record import FILE, TrainingRecord

WEIGHTS = {
    "all": "all weights of its denoiser",
    "lora": "low-rank adapters of its denoiser (folded into its weights)",
    "bias_scale": "biases, norms and scales of its denoiser",
}
ARMS = {
    "none": "the denoising loss alone",
    "instance": "the denoising loss and one on the features of each image",
    "frozen": "the denoising loss and one on how images of a batch relate",
    "sadm": "the denoising loss and structure-guided adversarial training (after SADM, arXiv 2402.17563)",
    "random_encoder": "the denoising loss and structure-guided adversarial training with an untrained encoder",
}


def read_training(model: ResolvedModel) -> TrainingRecord | None:
    """Return the record in a generator's directory, or None if there is none; a hub model never has one.

    Errors: ModelError for a damaged record, or one of another format.
    """
    file = Path(model.path) / (model.subfolder or "") / FILE
    if model.revision is not None or not file.is_file():
        return None

    try:
        return TrainingRecord.model_validate(parse_json(file.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise _refuse(
            file, f"is no record of a training: {key}: {first['msg']}, found {first['input']!r:.80}"
        ) from error
    except (ValueError, OSError) as error:
        raise _refuse(file, f"is not JSON: {describe_damage(error)}") from error


def describe_training(record: TrainingRecord) -> list[str]:
    """Return a sentence per training, from this one back to the first, and one on the model before it."""
    trained = list(_chain(record))
    first = trained[-1]
    unknown = [] if first.start == "new" else [f"There is no record of the training of {first.base.model}."]
    return [*map(_describe, trained), *unknown]


def _chain(record: TrainingRecord) -> Iterator[TrainingRecord]:
    """Yield a training and those of its base models, the latest first."""
    link: TrainingRecord | None = record
    while link is not None:
        yield link
        link = link.base.training


def _describe(record: TrainingRecord) -> str:
    """Return the sentences on one training."""
    base, images = record.base, record.images
    origin = f"{base.model} (sha256 {base.digest})"
    learnt = {
        "base": f"was adapted from {origin}: {WEIGHTS[record.weights]} were trained",
        "scratch": f"has a denoiser trained from scratch; its other parts are those of {origin}",
        "new": f"began as {origin}, whose autoencoder only normalises pixels and whose text encoder is random",
    }[record.start]

    loss = ARMS.get(record.structure.arm, f"the denoising loss and the structure arm {record.structure.arm}")
    licence = "" if images.license == UNKNOWN else f", licence {describe_licence(images.license).name}"
    return (
        f"{record.name} {learnt}. It saw {count_of(images.images, 'image')} of {images.origin} (sha256 "
        f"{images.digest}{licence}) in {count_of(record.steps, 'step')} of {record.batch}, with {loss}, "
        f"seed {record.seed}."
    )


def _refuse(file: Path, problem: str) -> ModelError:
    """Return the error for an unusable record."""
    return ModelError(
        f"generator: {file} {problem}; copy the generator again, or remove the file, so that versions do not describe "
        "its training"
    )
