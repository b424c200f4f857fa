"""Stage "samples": noise and prompts in, images and soft attention maps out."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from prefect import task

from catalog.store import Store
from schemas.errors import EngineError, NotFoundError
from schemas.jobs import PartitionJob, SampleSpec
from schemas.tables import SAMPLES
from tasks.artifacts import Address, Stage, canonical_json, digest, library_versions, run_once
from tasks.methods.clock import Clock
from tasks.methods.plain_sampling import OUT_OF_MEMORY, Rendered, cut_batches, render_plain
from tasks.methods.png import encode_png
from tasks.models.text_to_image import load_generator
from tasks.prefect_options import STAGE_TASK

STAGE = Stage("samples", "1", SAMPLES)

# An engine renders samples of one job, in order, and loads what models it needs.
Engine = Callable[[PartitionJob, Sequence[SampleSpec], Clock], Iterator[Rendered]]


def render_with_plain(job: PartitionJob, samples: Sequence[SampleSpec], clock: Clock) -> Iterator[Rendered]:
    """Engine "plain"; see tasks/methods/plain_sampling.py."""
    with clock.phase("load"):
        model = load_generator(job.build.generator)
    recipe = job.build.recipe
    return render_plain(model, samples, recipe.engine, recipe.annotation.window, clock)


ENGINES: dict[str, Engine] = {"plain": render_with_plain}


def locate(job: PartitionJob) -> Address:
    """Where the partition's SAMPLES lie."""
    recipe = job.build.recipe
    return Address(
        STAGE,
        part=job.part,
        label=job.label,
        settings={
            "concept": job.concept,
            "attempt": job.attempt,
            "engine": recipe.engine.model_dump(mode="json"),
            "window": list(recipe.annotation.window),
        },
        inputs={"samples": digest([sample.model_dump(mode="json") for sample in job.samples])},
        models={"generator": job.build.generator.digest},
    )


@task(task_run_name="synthesize {job[concept]} r{job[attempt]} {job[source]} #{job[part]}", **STAGE_TASK)
def synthesize(job: dict[str, Any]) -> dict[str, Any]:
    """Make the images of one partition and return the receipt of its SAMPLES."""
    parsed = PartitionJob.model_validate(job)
    store = Store.open(parsed.build.store)
    return run_once(store, locate(parsed), lambda: synthesize_partition(parsed)).model_dump(mode="json")


def synthesize_partition(job: PartitionJob) -> pa.Table:
    """SAMPLES of a partition, with its timings. Errors: EngineError if not one image fits into memory; ModelError."""
    clock = Clock()
    rows = []
    for sample, made in zip(job.samples, synthesize_batch(job, job.samples, clock), strict=True):
        with clock.phase("png"):
            rows.append(_row(job, sample, made))
    if all(row["error"] == OUT_OF_MEMORY for row in rows):
        raise EngineError(
            f"partition {job.label}: all {len(rows)} images ran out of memory, alone as well; ask for a smaller "
            "engine.height and engine.width, a smaller generator, or run where there is more memory"
        )
    spent = {name: seconds for name, seconds in clock.seconds.items() if name not in ("load", "wait")}
    timings = {**clock.seconds, "compute": sum(spent.values())}
    return pa.Table.from_pylist(rows, SAMPLES).replace_schema_metadata({"timings": json.dumps(timings)})


def synthesize_batch(
    job: PartitionJob, samples: Sequence[SampleSpec], clock: Clock | None = None
) -> Iterator[Rendered]:
    """Render some samples of a job by the recipe's engine, cut into batches from the first on."""
    return ENGINES[job.build.recipe.engine.kind](job, samples, clock or Clock())


def regenerate(job: PartitionJob, sample_id: str) -> pa.Table:
    """SAMPLES of one sample, made again bit-equal on the same class of machine by making its whole batch again.

    Errors: NotFoundError if the job does not hold the sample.
    """
    for batch in cut_batches(job.samples, job.build.recipe.engine.batch_size):
        if any(sample.sample_id == sample_id for sample in batch):
            made = zip(batch, synthesize_batch(job, batch), strict=True)
            rows = [_row(job, sample, rendered) for sample, rendered in made if sample.sample_id == sample_id]
            return pa.Table.from_pylist(rows, SAMPLES)
    raise NotFoundError(f"sample {sample_id} is not in partition {job.label}; check its id with `tailforge show`")


def _row(job: PartitionJob, sample: SampleSpec, made: Rendered) -> dict[str, Any]:
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
        "engine": job.build.recipe.engine.kind,
        "provenance": canonical_json(describe_origin(job, sample, made)),
    }


def describe_origin(job: PartitionJob, sample: SampleSpec, made: Rendered) -> dict[str, Any]:
    """Everything that decided the image's bytes, and nothing that differs between two equal runs."""
    generator, versions = job.build.generator, library_versions()
    return {
        **job.build.recipe.engine.model_dump(mode="json"),
        **made.provenance,
        "seed": sample.seed,
        "prompt_sha256": digest(sample.prompt),
        "generator": {"digest": generator.digest, "revision": generator.revision},
        "versions": {name: versions[name] for name in ("torch", "diffusers", "transformers")},
    }


def encode_array(array: np.ndarray[Any, Any]) -> bytes:
    """.npy bytes of an array."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
