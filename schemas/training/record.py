"""training.json: what a generator's folder tells of its training. Versions that the generator draws carry it on."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tailforge.schemas.settings.fields import Strict

FILE = "training.json"


def _name_alone(place: str) -> str:
    """Records are published: of an absolute path only the last name stays."""
    return PurePath(place).name if PurePath(place).is_absolute() else place


Place = Annotated[str, Field(min_length=1), AfterValidator(_name_alone)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TrainedImages(Strict):
    """What was learnt from: so many images of a version, a folder or a file."""

    origin: Place
    images: int = Field(ge=1)
    digest: Sha256


class TrainedStructure(BaseModel):
    """What joined the denoising loss; `arm` none: nothing. Further keys say how."""

    model_config = ConfigDict(frozen=True, extra="allow")

    arm: str


class TrainedBase(Strict):
    """The generator that was started from; `training` is its own record, where it has one."""

    model: Place
    digest: Sha256
    training: "TrainingRecord | None" = None


class TrainingRecord(Strict):
    """One training of a generator."""

    format: Literal["tailforge-training/1"]
    name: str = Field(min_length=1)
    base: TrainedBase
    start: Literal["base", "scratch"]
    weights: Literal["all", "lora", "bias_scale"]
    images: TrainedImages
    structure: TrainedStructure
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    seed: int
    minutes: float = Field(ge=0)
    measures: Mapping[str, Any]
    versions: Mapping[str, str]
