"""Where a generator comes from: the record of its training in its folder, and that record in words."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from tailforge.schemas.documents.foreign_json import describe_damage, parse_json
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.training.record import FILE, TrainingRecord

WEIGHTS = {
    "all": "all weights of its denoiser",
    "lora": "low-rank adapters of its denoiser, folded into the weights,",
    "bias_scale": "biases, norms and scales of its denoiser",
}
ARMS = {
    "none": "the denoising loss alone",
    "instance": "the denoising loss and one on the features of each image",
    "frozen": "the denoising loss and one on how images of a batch relate",
    "sadm": "the denoising loss and structure-guided adversarial training (after SADM, arXiv 2402.17563)",
    "random_encoder": "the denoising loss and structure-guided adversarial training with an encoder that never learnt",
}


def read_training(model: ResolvedModel) -> TrainingRecord | None:
    """The record in a generator's directory; None where there is none, and for a hub id.

    Errors: ModelError for a record that is damaged or of another format.
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
    """A sentence for this training, then one for each of those that it builds on, and what lies before them."""
    trained = list(_chain(record))
    first = trained[-1].base
    return [*map(_describe, trained), f"Nothing is recorded of how {first.model} was trained."]


def _chain(record: TrainingRecord) -> Iterator[TrainingRecord]:
    link: TrainingRecord | None = record
    while link is not None:
        yield link
        link = link.base.training


def _describe(record: TrainingRecord) -> str:
    base, images = record.base, record.images
    origin = f"{base.model} (sha256 {base.digest})"
    learnt = {
        "base": f"was adapted from {origin}: {WEIGHTS[record.weights]} learnt",
        "scratch": f"was trained from scratch: its denoiser; the other parts are those of {origin}",
    }[record.start]
    loss = ARMS.get(record.structure.arm, f"the denoising loss and the structure arm {record.structure.arm}")
    return (
        f"{record.name} {learnt}. It saw {count_of(images.images, 'image')} of {images.origin} (sha256 "
        f"{images.digest}) in {count_of(record.steps, 'step')} of {record.batch}, with {loss}, seed {record.seed}."
    )


def _refuse(file: Path, problem: str) -> ModelError:
    return ModelError(
        f"generator: {file} {problem}; copy the generator again, or remove the file: then versions say nothing of its "
        "training"
    )
