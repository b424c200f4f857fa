"""Jobs of the stages that steer a build: what judges, preferences and allocation are made from, in plain JSON."""

from pydantic import BaseModel, ConfigDict

from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt


class FinishedRound(BaseModel):
    """One finished round: its partitions' concepts and SAMPLES, in one order, and their PREFERENCES."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concepts: tuple[str, ...]
    samples: tuple[Receipt, ...]
    preferences: Receipt


class JudgeJob(BaseModel):
    """One classifier: trained on the real images and on the kept images of `rounds`. The verifier has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: BuildContext
    seed: int
    rounds: tuple[FinishedRound, ...] = ()
    label: str


class PreferenceJob(BaseModel):
    """The choice among the accepted images of one round.

    `concepts` and `samples`: of the round's partitions; `first`: number of the first of them in the SELECTION.
    `judge`: classifier of the round before; `verifier`: classifier of the real images alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: BuildContext
    attempt: int
    concepts: tuple[str, ...]
    samples: tuple[Receipt, ...]
    first: int
    selection: Receipt
    judge: Receipt
    verifier: Receipt


class AllocationJob(BaseModel):
    """The decision on a round. `drawn`, `kept`: images per round and concept; `recall`: before and after each round.

    `validation`: images per concept on which recall is measured. `macro`: mean recall over all real classes.
    `seconds`: of making and judging the drawn images, per concept. They are no part of the address: a decision that
    was made stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: BuildContext
    drawn: tuple[tuple[int, ...], ...]
    kept: tuple[tuple[int, ...], ...]
    recall: tuple[tuple[float, ...], ...]
    macro: tuple[float, ...]
    validation: tuple[int, ...]
    seconds: tuple[float, ...]
