"""Draw the samples of a partition, for stage `samples`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import EngineError, NotFoundError
from tailforge.schemas.jobs import InversionJob, PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.tables import SAMPLES
from tailforge.tasks.artifacts.contract import (
    Made,
    canonical_json,
    digest,
    library_versions,
)
from tailforge.tasks.artifacts.failures import read_kept
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.engines.inversion import pick_inverted
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.packing.arrays import encode_array
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import OUT_OF_MEMORY, Rendered, cut_batches
from tailforge.tasks.models.cache import describe_worker
from tailforge.tasks.stages.work.inversions import invert_run


def produce(workplace: Workplace, job: PartitionJob, inputs: EngineInputs) -> Made:
    """Make the SAMPLES of one partition. Rows that an earlier try kept stay. Errors: EngineError, ModelError."""
    return synthesize_partition(job, inputs, read_kept(workplace.store, workplace.address))


def synthesize_partition(
    job: PartitionJob, inputs: EngineInputs, kept: Mapping[str, dict[str, Any]] | None = None
) -> Made:
    """Return the SAMPLES of a partition. `kept`: rows by sample_id that stay as they are.

    Errors: EngineError if no image fits into memory; ModelError.
    """
    clock, known = Clock(), dict(kept or {})
    drawn = samples_to_draw(job, known)
    for sample, made in zip(drawn, synthesize_batch(job, drawn, inputs, clock), strict=True):
        if sample.sample_id not in known:
            with clock.phase("png"):
                known[sample.sample_id] = _row(job, sample, made)

    rows = [known[sample.sample_id] for sample in job.samples]
    if all(row["error"] == OUT_OF_MEMORY for row in rows):
        raise EngineError(
            f"partition {job.label}: out of memory with {count_of(len(rows), 'image')}, each alone as well; set "
            "a smaller engine.height and engine.width, or use a smaller generator or a machine with more memory"
        )

    timings = {**clock.seconds, "compute": sum(clock.seconds.values()) - sum(clock.idle.values())}
    return Made(pa.Table.from_pylist(rows, SAMPLES), timings, {"worker": describe_worker()})


def samples_to_draw(job: PartitionJob, kept: Mapping[str, Any]) -> Sequence[SampleSpec]:
    """Return all samples of the batches that lack a row. The other images of a batch decide the last bits of one."""
    batches = cut_batches(job.samples, job.build.recipe.engine.batch_size)
    return [sample for batch in batches if any(s.sample_id not in kept for s in batch) for sample in batch]


def synthesize_batch(
    job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock | None = None
) -> Iterator[Rendered]:
    """Yield the images of some samples of a job from the recipe's engine, which cuts them into batches in order.

    Errors: EngineError, ModelError.
    """
    return engine_of(job.build.recipe).render(job, samples, inputs, clock or Clock())


def remake(job: PartitionJob, sample_id: str, inputs: EngineInputs) -> Rendered:
    """Return one sample made again with its whole batch, bit-equal on the same kind of machine.

    Errors: NotFoundError if the job does not hold the sample; EngineError, ModelError.
    """
    sample = _find_sample(job, sample_id)
    batches = cut_batches(job.samples, job.build.recipe.engine.batch_size)
    batch = next(batch for batch in batches if sample in batch)
    return list(synthesize_batch(job, batch, inputs))[list(batch).index(sample)]


def remake_inverted(job: PartitionJob, sample_id: str, run: InversionJob) -> Rendered:
    """Return one sample of an inversion, made again with its whole run.

    Errors: NotFoundError if the job does not hold the sample; EngineError, ModelError.
    """
    (made,) = pick_inverted(invert_run(run).table, [_find_sample(job, sample_id)])
    return made


def remake_from_noise(job: PartitionJob, sample_id: str, noise: NDArray[np.float16]) -> Rendered:
    """Return one sample made from the noise that its search chose, [C, h, w], without a search.

    Errors: NotFoundError if the job does not hold the sample; EngineError, ModelError.
    """
    return engine_of(job.build.recipe).render_noise(job, _find_sample(job, sample_id), noise, Clock())


def tabulate(job: PartitionJob, made: Rendered) -> pa.Table:
    """Return the SAMPLES of one sample of a job. Errors: NotFoundError if the job does not hold it."""
    return pa.Table.from_pylist([_row(job, _find_sample(job, made.sample_id), made)], SAMPLES)


def _find_sample(job: PartitionJob, sample_id: str) -> SampleSpec:
    """Return a sample of a job. Errors: NotFoundError if the job does not hold it."""
    sample = next((each for each in job.samples if each.sample_id == sample_id), None)
    if sample is None:
        raise NotFoundError(f"sample {sample_id} is not in partition {job.label}; check its id with `tailforge show`")
    return sample


def _row(job: PartitionJob, sample: SampleSpec, made: Rendered) -> dict[str, Any]:
    """Return a row of SAMPLES."""
    height, width = (None, None) if made.pixels is None else made.pixels.shape[:2]

    return {
        "sample_id": sample.sample_id,
        "concept": job.concept,
        "prompt_index": sample.prompt_index,
        "replica": sample.replica,
        "attempt": job.attempt,
        "seed": sample.seed,
        "prompt": sample.prompt,
        "slots": [slot.model_dump() for slot in sample.slots],
        "status": "failed" if made.error else "ok",
        "error": made.error,
        "image": None if made.pixels is None else encode_png(made.pixels),
        "width": width,
        "height": height,
        "attention": None if made.attention is None else encode_array(made.attention),
        "attention_agreement": made.agreement,
        "noise": None if made.noise is None else encode_array(made.noise),
        "engine": job.build.recipe.engine.kind,
        "provenance": canonical_json(describe_origin(job, sample, made)),
    }


def describe_origin(job: PartitionJob, sample: SampleSpec, made: Rendered) -> dict[str, Any]:
    """Return everything that decides the image's bytes. Equal runs give equal values."""
    generator, guide, versions = job.build.generator, job.build.guide, library_versions()
    libraries = engine_of(job.build.recipe).libraries
    return {
        **job.build.recipe.engine.describe(),
        **made.provenance,
        "seed": sample.seed,
        "prompt_sha256": digest(sample.prompt),
        **({"generator": generator.record} if generator else {}),
        **({"guide": guide.record} if guide else {}),
        **({"encoder": {"digest": job.build.encoder.digest}} if job.build.encoder else {}),
        "versions": {name: versions[name] for name in libraries},
    }
