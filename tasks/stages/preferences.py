"""Stage `preferences`: which accepted images of one round of a steered build are kept.

Kept are images that the classifier of the round before is unsure of, and that the verifier still calls right. The
verifier is a classifier of real images alone, which never saw a synthetic one.
"""

from tailforge.schemas.allocation import PreferenceJob
from tailforge.schemas.evaluation import WEIGHTS
from tailforge.schemas.extras import when_called
from tailforge.schemas.tables import PREFERENCES
from tailforge.tasks.artifacts.contract import Address, digest
from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.stages.judges import real_of, settings_of


def locate(job: PreferenceJob) -> Address:
    """Return the address of the preferences of a round."""
    allocation, real = settings_of(job.build), real_of(job.build)
    judges = {"judge": job.judge, "verifier": job.verifier}
    weights = {name: str(each.details.get("files", {}).get(WEIGHTS, {}).get("sha256")) for name, each in judges.items()}
    return Address(
        STAGE,
        part=0,
        label=f"preferences of round {job.attempt}",
        settings={"keep": allocation.keep, "floor": allocation.floor, "numbers": list(real.numbers)},
        inputs={
            "samples": digest([each.sha256 for each in job.samples]),
            "selection": job.selection.sha256,
            "real": real.digest,
            **weights,
        },
    )


STAGE = Stage(
    name="preferences",
    version="1",
    schema=PREFERENCES,
    locate=locate,
    produce=when_called("tasks.stages.work.preferences", "produce"),
)
