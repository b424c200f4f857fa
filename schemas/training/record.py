"""training.json: the record of a generator's training in its folder. Versions from the generator contain a copy."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tailforge.schemas.settings.fields import Strict
from tailforge.schemas.settings.licences import UNKNOWN, PhotographsLicence

FILE = "training.json"


def _name_alone(place: str) -> str:
    """Return the last name of an absolute path, since records are published; other places stay."""
    return PurePath(place).name if PurePath(place).is_absolute() else place


Place = Annotated[str, Field(min_length=1), AfterValidator(_name_alone)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TrainedImages(Strict):
    """The training images: their number, and the version, folder or file that they came from."""

    origin: Place
    images: int = Field(ge=1)
    digest: Sha256
    license: PhotographsLicence = UNKNOWN


class TrainedStructure(BaseModel):
    """The structure loss; `arm` none: the denoising loss alone. Further keys hold its settings."""

    model_config = ConfigDict(frozen=True, extra="allow")

    arm: str


class TrainedBase(Strict):
    """The generator at the start of the training; `training`: its own record, if it has one."""

    model: Place
    digest: Sha256
    training: "TrainingRecord | None" = None


class TrainingRecord(Strict):
    """One training of a generator. `minutes`: duration. `measures`: results. `versions`: libraries."""

    format: Literal["tailforge-training/1"]
    name: str = Field(min_length=1)
    base: TrainedBase
    start: Literal["base", "scratch", "new"]
    weights: Literal["all", "lora", "bias_scale"]
    images: TrainedImages
    structure: TrainedStructure
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    seed: int
    minutes: float = Field(ge=0)
    measures: Mapping[str, Any]
    versions: Mapping[str, str]
