"""Stage `seeds`: noises from full searches by SeedSelect, which the images of a concept mix with their own noise."""

from typing import Any

import pyarrow as pa

from tailforge.schemas.errors import EngineError
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.tables import SEEDS
from tailforge.tasks.artifacts.contract import Address, Made, canonical_json, digest_samples
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.engines.search_inputs import load_search, seed_engine
from tailforge.tasks.methods.packing.arrays import encode_array
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import OUT_OF_MEMORY
from tailforge.tasks.methods.seed_select.engine import find_noise
from tailforge.tasks.methods.seed_select.search import VERSION, Found

NOT_OF_THE_SEARCH = {"mode", "found_seeds", "mixes", "fresh_share", "encoder"}


def locate(job: PartitionJob, inputs: EngineInputs) -> Address:
    """Return the address of one batch of SEEDS."""
    assert job.build.encoder is not None
    return Address(
        STAGE,
        part=job.part,
        label=f"seeds of {job.concept} #{job.part}",
        settings={
            "method": VERSION,
            "engine": job.build.recipe.engine.model_dump(mode="json", exclude=NOT_OF_THE_SEARCH),
        },
        inputs={"samples": digest_samples(job.samples), **inputs.digests},
        models={"generator": job.build.generator.digest, "encoder": job.build.encoder.digest},
    )


def produce(_: Workplace, job: PartitionJob, inputs: EngineInputs) -> Made:
    """Make one batch of SEEDS, without noises whose image is not finite.

    Errors: EngineError out of memory, ModelError.
    """
    engine = seed_engine(job.build)
    clock = Clock()
    with clock.phase("load"):
        model, goal = load_search(job, inputs)
    found = find_noise(model, job.samples, engine, goal, clock)
    if any(each.error == OUT_OF_MEMORY for each in found):  # a later try may succeed, so this must not count as done
        raise EngineError(f"seeds of {job.concept!r}: {OUT_OF_MEMORY}; ask for a smaller image or generator")
    rows = [_row(sample, each) for sample, each in zip(job.samples, found, strict=True) if each.error is None]
    return Made(pa.Table.from_pylist(rows, SEEDS), clock.idle)


def _row(sample: Any, found: Found) -> dict[str, Any]:
    """Return a row of SEEDS."""
    return {
        "sample_id": sample.sample_id,
        "prompt": sample.prompt,
        "noise": encode_array(found.noise.half().cpu().numpy()),
        "confidence": found.record.get("confidence"),
        "record": canonical_json(found.record | {"candidate": found.candidate}),
    }


STAGE = Stage(
    name="seeds",
    version="1",
    schema=SEEDS,
    costing=("method", "engine"),
    locate=locate,
    produce=produce,
    uses_generator=True,
)
