"""Invert a trained classifier, for stage `inversions`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import EngineError
from tailforge.schemas.jobs import BuildContext, InversionJob
from tailforge.schemas.tables import INVERSIONS
from tailforge.tasks.artifacts.contract import Made, canonical_json
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.engines.inversion import inversion_engine
from tailforge.tasks.methods.natural_inversion.class_activation import Maps, class_activation
from tailforge.tasks.methods.natural_inversion.contract import Inverted
from tailforge.tasks.methods.natural_inversion.invert import invert
from tailforge.tasks.methods.packing.arrays import encode_array
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.memory import is_out_of_memory
from tailforge.tasks.models.teacher import Teacher, load_teacher

DIGITS = 6  # decimals that equal runs agree on
_ONE_AT_A_TIME = Lock()  # an inversion sets hooks on the teacher, which all threads share


def produce(_: Workplace, job: InversionJob) -> Made:
    """Make the INVERSIONS of one run: one row per sample, none for a filler. Errors: EngineError, ModelError."""
    return invert_run(job)


def invert_run(job: InversionJob) -> Made:
    """Return the INVERSIONS of a run. Errors: EngineError out of memory, ModelError."""
    clock = Clock()
    with clock.phase("load"):
        teacher = recipe_teacher(job.build)

    # Invert all places, then leave out the fillers, which only complete a batch.
    with _alone(clock), clock.phase("compute"):
        made = _invert(teacher, job)
        kept = [
            (place.sample_id, image)
            for place, image in zip(job.places, made, strict=True)
            if place.sample_id is not None
        ]
        maps = _see_labels(teacher, [image for _, image in kept], inversion_engine(job.build).batch_size)

    limit = inversion_engine(job.build).steps
    rows = [_row(sample_id, image, seen, limit) for (sample_id, image), seen in zip(kept, maps, strict=True)]
    return Made(pa.Table.from_pylist(rows, INVERSIONS), clock.seconds)


def recipe_teacher(build: BuildContext) -> Teacher:
    """Return the teacher that the recipe names as its generator, loaded. Errors: ModelError."""
    return load_teacher(build.require_generator(), build.recipe.teacher, Path(build.folder) if build.folder else None)


@contextmanager
def _alone(clock: Clock) -> Iterator[None]:
    """Run one inversion at a time in this process; measure the waiting."""
    with clock.phase("wait"):
        _ONE_AT_A_TIME.acquire()
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


def _invert(teacher: Teacher, job: InversionJob) -> list[Inverted]:
    """Return the inverted images of a run, in the order of its places. Errors: EngineError out of memory."""
    engine = inversion_engine(job.build)
    labels, seeds = [place.label for place in job.places], [place.seed for place in job.places]
    try:
        return list(invert(teacher, labels, seeds, engine))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EngineError(
            f"inversion {job.label}: out of memory with {count_of(engine.groups, 'batch')} of "
            f"{count_of(engine.batch_size, 'image')}; lower "
            "engine.groups or engine.batch_size (the images then change), or use a machine with more memory"
        ) from error


def _see_labels(teacher: Teacher, images: Sequence[Inverted], batch_size: int) -> list[Maps | None]:
    """Return the class activation map per image, float16 [1, H, W]; None for a failed image."""
    sound = [(place, image.pixels, image.label) for place, image in enumerate(images) if image.pixels is not None]
    seen: list[Maps | None] = [None] * len(images)
    for start in range(0, len(sound), batch_size):
        places, pixels, labels = zip(*sound[start : start + batch_size], strict=True)
        for place, found in zip(places, class_activation(teacher, np.stack(pixels), labels), strict=True):
            seen[place] = found
    return seen


def _row(sample_id: str, image: Inverted, seen: Maps | None, limit: int) -> dict[str, Any]:
    """Return a row of INVERSIONS."""
    return {
        "sample_id": sample_id,
        "label": image.label,
        "status": "failed" if image.error else "ok",
        "error": image.error,
        "image": None if image.pixels is None else encode_png(image.pixels),
        "attention": None if seen is None else encode_array(seen),
        "record": canonical_json(describe_inversion(image, limit)),
    }


def describe_inversion(image: Inverted, limit: int) -> dict[str, Any]:
    """Return the settings, losses and teacher's logits of an inverted image. `limit`: most steps of its batch."""
    record: dict[str, Any] = {**image.provenance, "label": image.label}
    if image.logits is None or image.losses is None:
        return record
    record |= {
        "stop_reason": "settled" if image.provenance["steps"] < limit else "steps",
        "step": image.step,
        "losses": {name: round(value, DIGITS) for name, value in image.losses.items()},
        "agrees_before_saving": image.agrees,
        "agrees": image.agrees_saved,
        "teacher_agreement": round(float(softmax(image.logits.astype(np.float64))[image.label]), DIGITS),
        "teacher_logits": [round(float(value), DIGITS) for value in image.logits],
    }
    return record if image.alpha is None else record | {"channel_scales": [round(v, DIGITS) for v in image.alpha]}
