"""Read what the record of an evaluation says of a version's worth, also where parts of the record are missing.

Records of other releases may have more parts or fewer. Parts that are there have the types below.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

NOT_EVALUATED = "not evaluated"
NOT_CHECKED = "not checked"
MIXED = "mixed"  # the arm that the verdict is about
Outcome = Literal["gain", "loss", "no difference"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Figure(_Part):
    """A mean over seeds and its 95 % interval. Parts that were not measured are None."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def percent(self) -> str:
        """Return a share in per cent with its interval; a dash without a figure."""
        if self.value is None:
            return "–"
        if self.low is None or self.high is None:
            return f"{100 * self.value:.1f} %"
        return f"{100 * self.value:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f}) %"

    @property
    def points(self) -> str:
        """Return a difference of shares in points of per cent with its interval; a dash without a figure."""
        if self.value is None:
            return "–"
        if self.low is None or self.high is None:
            return f"{100 * self.value:+.1f}"
        return f"{100 * self.value:+.1f} (95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f})"


class Gain(Figure):
    """A difference of scores with its interval, as a share, and what it means."""

    verdict: Outcome = "no difference"


class ClassFigure(Figure):
    """The figure of one class."""

    name: str = Field("", alias="class")


class ArmFigures(_Part):
    """One arm at its chosen setting: mean score of rare and of all classes, and score per class."""

    arm: str
    setting: str = ""
    tail: Figure = Figure()
    macro: Figure = Figure()
    scores: tuple[ClassFigure, ...] = Field((), validation_alias=AliasChoices("scores", "recall"))


class ArmGain(_Part):
    """The gains of one arm over the best arm of real images alone."""

    arm: str
    gain_tail: Gain = Gain()
    gain_macro: Gain = Gain()


class Dose(_Part):
    """Score on validation at one share of synthetic images."""

    arm: str
    share: float
    tail: Figure = Figure()
    macro: Figure = Figure()


class CurvePoint(_Part):
    """Score of real images alone with `images` real images of rare classes."""

    images: int
    tail: Figure = Figure()


class ExchangeRate(_Part):
    """Numbers of real images, None beyond the end of the curve; `last`: that end."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    last: float = 0.0
    extrapolated: bool = False


class Exchange(_Part):
    """What a version is worth in real images of rare classes.

    `images` and `synthetic`: those of the version's arm, `tail` its score. `points`: the learning curve. `worth`: of
    all synthetic images; `per_hundred`: of 100 of them.
    """

    images: int
    synthetic: int
    tail: Figure = Figure()
    points: tuple[CurvePoint, ...] = ()
    worth: ExchangeRate
    per_hundred: ExchangeRate


class ClassCount(_Part):
    """Group and numbers of real images of one class."""

    name: str
    group: str = ""
    train: int | None = None
    test: int | None = None


class Choices(_Part):
    """Settings of the evaluation that a reader needs."""

    seeds: int | None = None
    steps: int | None = None
    model: str = ""


class Worth(_Part):
    """What an evaluation says of a version. `score`: what is measured per class, such as recall.

    `baseline`: the best arm of real images alone.
    """

    version: str
    verdict: str
    real: str = ""
    score: str = "recall"
    baseline: str = ""
    settings: Choices = Choices()
    classes: tuple[ClassCount, ...] = ()
    arms: tuple[ArmFigures, ...] = ()
    gains: tuple[ArmGain, ...] = ()
    doses: tuple[Dose, ...] = ()
    exchange: Exchange | None = None

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Return the worth that a record tells. Errors: ValueError for parts of other types."""
        return cls.model_validate(record)

    @property
    def before(self) -> ArmFigures | None:
        """Return the arm without the version; None without figures."""
        return self._find(self.baseline)

    @property
    def after(self) -> ArmFigures | None:
        """Return the arm with the version; None without figures."""
        return self._find(MIXED)

    @property
    def gain(self) -> ArmGain | None:
        """Return the gains of the version; None without them."""
        return next((each for each in self.gains if each.arm == MIXED), None)

    @property
    def outcome(self) -> Outcome:
        """Return whether rare classes gained."""
        return self.gain.gain_tail.verdict if self.gain else "no difference"

    def _find(self, arm: str) -> ArmFigures | None:
        return next((each for each in self.arms if each.arm == arm), None)
