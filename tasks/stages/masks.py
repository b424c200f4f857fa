"""Stage `masks`: masks, boxes and their scores from soft attention maps."""

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.engine_settings import CHANGED
from tailforge.schemas.tables import MASKS
from tailforge.tasks.artifacts.contract import Address
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.engines.drawing import drawing_engine

DECIDED_SAMPLES = {"window", "affinity"}  # settings in the address of stage `samples` already
RENOISING = {"model", "noise", "draws"}  # settings of kind renoised_attention only


def locate(job: PartitionJob, samples: Receipt) -> Address:
    """Return the address of the partition's MASKS."""
    recipe, annotator = job.build.recipe, job.build.annotator
    hidden = DECIDED_SAMPLES | ({"model"} if annotator else RENOISING)
    others = {} if recipe.annotation.slots == ("concept",) else {"categories": _list_values(job)}

    return Address(
        STAGE,
        part=job.part,
        label=job.label,
        settings={
            "annotation": recipe.annotation.model_dump(mode="json", exclude=hidden),
            "category": [recipe.class_id(job.concept) + 1, job.concept],
            **others,
            **({"min_change": drawing_engine(job.build).min_change} if recipe.annotation.kind == CHANGED else {}),
        },
        inputs={"samples": samples.sha256},
        models={"annotator": annotator.digest} if annotator else {},
    )


def _list_values(job: PartitionJob) -> list[tuple[str, str, int]]:
    """Return slot, value and category of every value of the masked slots. Synonyms decide them as well as names."""
    recipe = job.build.recipe
    values = recipe.prompts.attributes
    return [
        (slot, value, recipe.category_id(slot, value, job.concept))
        for slot in recipe.annotation.slots
        for value in values.get(slot, ())
    ]


STAGE = Stage(
    name="masks",
    version="7",
    schema=MASKS,
    costing=("annotation",),
    locate=locate,
    produce=when_called("tasks.stages.work.masks", "produce"),
)
