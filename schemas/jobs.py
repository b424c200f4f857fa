"""Jobs: the input of a flow's tasks, in plain JSON, so that any runner can send it to any process."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tailforge.schemas.explanation import RepairRecord
from tailforge.schemas.options import Fit
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.review import Review
from tailforge.schemas.settings.licences import OtherLicence
from tailforge.schemas.training.record import TrainedImages, TrainingRecord


class ResolvedLora(BaseModel):
    """A located LoRA file. `path`: the file, or a hub id. `digest`: of a local file its sha256.

    `license`: as the card in the file's folder states it; None if unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    file: str
    revision: str | None = None
    subfolder: str | None = None
    weight: float
    digest: str
    sha256: str | None = None
    license: str | None = None


class ResolvedControl(BaseModel):
    """A located ControlNet. `folder`: of its images; `images`: name and sha256 of each, in order.

    `digest`: over its bytes, images and settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    revision: str | None = None
    subfolder: str | None = None
    digest: str
    kind: Literal["edges", "depth", "masks"]
    scale: float
    fit: Fit
    folder: str
    images: tuple[tuple[str, str], ...]


class ResolvedModel(BaseModel):
    """A located model. `path`: directory or hub id. `digest`: over its bytes, its LoRA files and its ControlNet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    revision: str | None = None
    subfolder: str | None = None
    digest: str
    loras: tuple[ResolvedLora, ...] = ()
    control: ResolvedControl | None = None

    @property
    def record(self) -> dict[str, Any]:
        """Return digest and revision, and LoRA files and a ControlNet if there are any, as versions record them."""
        shown = {"file", "revision", "weight", "digest", "license"}
        loras = [lora.model_dump(mode="json", include=shown) for lora in self.loras]
        control = self.control and self.control.model_dump(mode="json", include={"revision", "digest", "kind", "scale"})
        added = {"loras": loras, "control": control}
        return {"digest": self.digest, "revision": self.revision, **{key: own for key, own in added.items() if own}}


class TeacherLabels(BaseModel):
    """The teacher's number of classes, and the class of each concept, counted from 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int
    labels: dict[str, int]


class ResolvedImages(BaseModel):
    """Located real images with splits train and validation. `digest`: over labels and bytes of both splits.

    `classes`: their names, in order. `numbers`: class per concept of the recipe, in the recipe's order. `height`,
    `width` and `channels`: of the images that classifiers read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    root: str | None = None
    digest: str
    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    height: int
    width: int
    channels: int
    fit: Fit


class LocatedImages(BaseModel):
    """Located images of an engine. `digest`: over names, splits, groups, bytes and masks of all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    root: str | None = None
    digest: str


class BuildContext(BaseModel):
    """The common part of all jobs of one build: the recipe, and everything that it names, located and digested.

    `photographs`: the images that the build adapts its generator to. Until then `generator` is the base; afterwards
    `adapted` is the fingerprint of the adaptation. It is None for an engine that takes none. `folder`: the recipe's
    folder, for reading photographs again.
    `references`: sha256 of each concept's reference photographs in the order of their file names. `real`: the images
    that steer the allocation. `images`: those that the engine reads, by their place in the recipe. `repairs` and
    `reviews`: decisions on samples of this dataset; tasks do not receive them, since each partition contains its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    recipe: Recipe
    folder: str | None = None
    generator: ResolvedModel | None = None
    generator_training: TrainingRecord | None = None
    photographs: TrainedImages | None = None
    adapted: str | None = None
    guide: ResolvedModel | None = None
    scorer: ResolvedModel | None = None
    encoder: ResolvedModel | None = None
    verifier: ResolvedModel | None = None
    annotator: ResolvedModel | None = None
    language_model: ResolvedModel | None = None
    teacher: TeacherLabels | None = None
    references: dict[str, tuple[str, ...]] = {}
    real: ResolvedImages | None = None
    images: dict[str, LocatedImages] = {}
    repairs: tuple[RepairRecord, ...] = Field((), exclude=True)
    reviews: tuple[Review, ...] = Field((), exclude=True)

    def require_generator(self) -> ResolvedModel:
        """Return the generator. Callers serve engines that have one."""
        assert self.generator is not None
        return self.generator

    @property
    def awaits_adaptation(self) -> bool:
        """Return whether the generator is still the base of an adaptation."""
        return self.photographs is not None and self.adapted is None

    @property
    def licences(self) -> dict[str, str | OtherLicence]:
        """Return the licence of all photographs that the images come from, by their use; UNKNOWN if not stated.

        They include what the generator, or its base, learnt before this build, as far as there is a record.
        """
        found = self.recipe.photographs
        if self.photographs is not None:
            found["training"] = self.photographs.license
        record = self.generator_training
        if record is not None and self.adapted is not None:
            record = record.base.training  # its own images are those of `training`
        while record is not None:
            found[f"training of {record.name}"] = record.images.license
            record = record.base.training
        return found

    @property
    def models(self) -> dict[str, ResolvedModel]:
        """Return all models of the build by role."""
        roles = ("generator", "guide", "scorer", "encoder", "verifier", "annotator", "language_model")
        return {role: model for role in roles if (model := getattr(self, role)) is not None}


class Slot(BaseModel):
    """A filled slot of a prompt: characters [start, end) are `value`; `name` is "concept" or an attribute.

    The fields of Slot and SampleSpec are in alphabetic order, so that pydantic writes canonical JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    end: int
    name: str
    start: int
    value: str


class Prompt(BaseModel):
    """One row of the PROMPTS table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_index: int
    source: str
    text: str
    slots: tuple[Slot, ...]


class SampleSpec(BaseModel):
    """The plan of one image. `replica`: earlier uses of its prompt in the same attempt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    prompt_index: int
    replica: int
    sample_id: str
    seed: int
    slots: tuple[Slot, ...]


class PartitionJob(BaseModel):
    """One partition: samples of one concept, one attempt (round) and one prompt source, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: BuildContext
    concept: str
    attempt: int
    source: str
    part: int
    samples: tuple[SampleSpec, ...]

    @property
    def label(self) -> str:
        """Return the partition's name for logs and Prefect's pages."""
        return f"{self.concept} r{self.attempt} {self.source} #{self.part}"


class InversionPlace(BaseModel):
    """One image of an inversion. Without `sample_id` it only fills its batch and is dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_id: str | None
    seed: int
    label: int


class InversionJob(BaseModel):
    """One run of an inversion: all concepts' partitions of one attempt (round), prompt source and number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: BuildContext
    attempt: int
    source: str
    part: int
    places: tuple[InversionPlace, ...]

    @property
    def label(self) -> str:
        """Return the run's name for logs."""
        return f"r{self.attempt} {self.source} #{self.part}"
