"""Stage `samples`: images and soft attention maps from noise and prompts."""

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.tables import SAMPLES
from tailforge.tasks.artifacts.contract import (
    Address,
    digest_samples,
)
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.engines.registry import engine_of

DRAWING = {"generator", "guide", "encoder"}  # roles of the models that decide an image


def locate(job: PartitionJob, inputs: EngineInputs) -> Address:
    """Return the address of the partition's SAMPLES."""
    build, recorded = job.build, job.build.recipe.annotation.recorded

    return Address(
        STAGE,
        part=job.part,
        label=job.label,
        settings={
            "concept": job.concept,
            "attempt": job.attempt,
            "engine": build.recipe.engine.describe(),
            "recorded": recorded.model_dump(mode="json") if recorded else None,
            **engine_of(build.recipe).method,
        },
        inputs={
            "samples": digest_samples(job.samples),
            **inputs.digests,
            **{place: found.digest for place, found in build.images.items()},
        },
        models={role: model.digest for role, model in build.models.items() if role in DRAWING},
    )


STAGE = Stage(
    name="samples",
    version="5",
    schema=SAMPLES,
    costing=("method", "engine", "recorded"),
    locate=locate,
    produce=when_called("tasks.stages.work.samples", "produce"),
    uses_generator=True,
    makes_images=True,
    keeps_rows=True,
)
