"""Stage `augmented`: the accepted samples of a partition after the recipe's augmentation.

The gates judge every augmented image, because it is published itself. If it fails, a copy is dropped, and an
augmentation in place is undone.
"""

from collections.abc import Mapping, Sequence

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.tables import AUGMENTED
from tailforge.tasks.artifacts.contract import Address
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.stages.verdicts import describe_rule

Bounds = Mapping[str, Sequence[float | None]]  # by gate: lowest and highest, from the recipe's quantiles


def locate(job: PartitionJob, samples: Receipt, masks: Receipt, accepted: Sequence[int], bounds: Bounds) -> Address:
    """Return the address of one partition's AUGMENTED.

    `accepted`: rows of the partition, rising. `bounds`: those of the concept in the selection's receipt.
    """
    augmentation, rule = job.build.recipe.augmentation, describe_rule(job, is_augmented=True)

    return Address(
        STAGE,
        part=job.part,
        label=job.label,
        settings={
            **rule.settings,
            "augmentation": augmentation and augmentation.model_dump(mode="json"),
            "accepted": list(accepted),
            "bounds": dict(bounds),
        },
        inputs={"samples": samples.sha256, "masks": masks.sha256, **rule.inputs},
        models=rule.models,
    )


STAGE = Stage(
    name="augmented",
    version="2",
    schema=AUGMENTED,
    costing=("augmentation", "gates", "verifier"),
    locate=locate,
    produce=when_called("tasks.stages.work.augmented", "produce"),
)
