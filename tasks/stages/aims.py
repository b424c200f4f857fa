"""Stage `aims`: features of a concept's reference photographs and of plain samples, with which a search compares."""

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.tables import AIMS
from tailforge.tasks.artifacts.contract import Address, digest, digest_samples
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.engines.search import search_engine

SAMPLING = ("batch_size", "guidance", "scheduler", "height", "width", "negative_prompt")


def locate(job: PartitionJob) -> Address:
    """Return the address of the concept's AIMS."""
    engine, encoder = search_engine(job.build), job.build.encoder
    assert encoder is not None

    return Address(
        STAGE,
        part=0,
        label=f"aim of {job.concept}",
        settings={
            "sampling": engine.model_dump(mode="json", include=set(SAMPLING)) | {"steps": engine.few_steps},
        },
        inputs={
            "samples": digest_samples(job.samples),
            "references": digest(list(job.build.references[job.concept])),
        },
        models={"generator": job.build.require_generator().digest, "encoder": encoder.digest},
    )


STAGE = Stage(
    name="aims",
    version="2",
    schema=AIMS,
    costing=("sampling",),
    locate=locate,
    produce=when_called("tasks.stages.work.aims", "produce"),
    uses_generator=True,
)
