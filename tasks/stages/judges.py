"""Stage `judges`: one classifier of a steered build, trained on real images and on the images kept so far.

What validation says of it decides the next round. The weights of the chosen step are kept beside the table.
"""

from tailforge.catalog.store import Store
from tailforge.schemas.allocation import JudgeJob
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, ResolvedImages
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.allocation import GainAllocation
from tailforge.schemas.tables import TRIALS
from tailforge.tasks.artifacts.contract import Address, digest, read_table
from tailforge.tasks.artifacts.stage import Stage

NUMBERS = "validation"  # key of a receipt: validation images per class


def settings_of(build: BuildContext) -> GainAllocation:
    """Return the settings of a steered build."""
    allocation = build.recipe.allocation
    assert isinstance(allocation, GainAllocation)
    return allocation


def real_of(build: BuildContext) -> ResolvedImages:
    """Return the real images of a steered build."""
    assert build.real is not None
    return build.real


def locate(job: JudgeJob) -> Address:
    """Return the address of a classifier."""
    build, allocation = job.build, settings_of(job.build)
    rounds = [[[each.sha256 for each in own.samples], own.preferences.sha256] for own in job.rounds]
    settings = {
        "seed": job.seed,
        "training": allocation.judge.fit.model_dump(mode="json"),
        "share": allocation.share,
        "numbers": list(real_of(build).numbers),
        "format": real_of(build).model_dump(mode="json", include={"height", "width", "channels", "fit"}),
    }
    references = digest({name: list(each) for name, each in build.references.items()})
    inputs = {"real": real_of(build).digest, "references": references, "rounds": digest(rounds)}
    return Address(STAGE, part=0, label=job.label, settings=settings, inputs=inputs)


def read_chosen(store: Store, receipt: Receipt) -> dict[str, float]:
    """Return the row of TRIALS that validation chose. Errors: StoreError, DamagedArtifactError."""
    rows: list[dict[str, float]] = read_table(store, receipt).to_pylist()
    return next(row for row in rows if row["chosen"])


STAGE = Stage(
    name="judges", version="1", schema=TRIALS, locate=locate, produce=when_called("tasks.stages.work.judges", "produce")
)
