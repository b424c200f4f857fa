"""Search for noises, for stage `seeds`."""

from typing import Any

import pyarrow as pa

from tailforge.schemas.errors import EngineError
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.tables import SEEDS
from tailforge.tasks.artifacts.contract import Made, canonical_json
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.engines.search import seed_engine
from tailforge.tasks.engines.work.search_inputs import load_search
from tailforge.tasks.methods.packing.arrays import encode_array
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import OUT_OF_MEMORY
from tailforge.tasks.methods.seed_select.engine import find_noise
from tailforge.tasks.methods.seed_select.search import Found


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
