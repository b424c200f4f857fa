"""Stage `inversions`: labelled images from a trained classifier, one run of whole batches per partition."""

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import InversionJob
from tailforge.schemas.tables import INVERSIONS
from tailforge.tasks.artifacts.contract import Address, digest
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.engines.inversion import inversion_engine
from tailforge.tasks.methods.natural_inversion import VERSION


def locate(job: InversionJob) -> Address:
    """Return the address of the run's INVERSIONS. Captions and requested counts do not change it."""
    recipe = job.build.recipe
    return Address(
        STAGE,
        part=job.part,
        label=job.label,
        settings={
            "method": VERSION,
            "engine": inversion_engine(job.build).model_dump(mode="json", exclude={"kind", "preset"}),
            "preparation": recipe.teacher.model_dump(mode="json", include={"mean", "std", "size"}),
        },
        inputs={"places": digest([place.model_dump(mode="json") for place in job.places])},
        models={"generator": job.build.require_generator().digest},
    )


STAGE = Stage(
    name="inversions",
    version="1",
    schema=INVERSIONS,
    costing=("method", "engine", "preparation"),
    locate=locate,
    produce=when_called("tasks.stages.work.inversions", "produce"),
    uses_generator=True,
    makes_images=True,
)
