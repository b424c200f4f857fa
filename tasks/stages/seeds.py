"""Stage `seeds`: noises from full searches by SeedSelect, which the images of a concept mix with their own noise."""

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.tables import SEEDS
from tailforge.tasks.artifacts.contract import Address, digest_samples
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.methods.seed_select import VERSION

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
        models={"generator": job.build.require_generator().digest, "encoder": job.build.encoder.digest},
    )


STAGE = Stage(
    name="seeds",
    version="1",
    schema=SEEDS,
    costing=("method", "engine"),
    locate=locate,
    produce=when_called("tasks.stages.work.seeds", "produce"),
    uses_generator=True,
)
