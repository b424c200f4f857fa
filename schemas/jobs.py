"""Jobs: what a flow hands to a task, plain JSON, so that any runner can carry it to any process."""

from pydantic import BaseModel, ConfigDict, Field

from tailforge.schemas.explanation import RepairRecord
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.review import Review
from tailforge.schemas.training.record import TrainingRecord


class ResolvedModel(BaseModel):
    """A model that was found: `path` is a directory or a hub id, `digest` stands for all its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    revision: str | None = None
    subfolder: str | None = None
    digest: str


class TeacherLabels(BaseModel):
    """How many classes the teacher knows, and which of them each concept of the recipe is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int
    labels: dict[str, int]


class BuildContext(BaseModel):
    """What all jobs of one build share: the recipe with everything that it names already found and digested.

    `references` maps a concept to the sha256 of each of its reference photographs, in file-name order; `folder` is the
    recipe's folder, needed only to read those photographs again. `repairs`: of samples of this dataset, by parent.
    `reviews`: what persons decided on its samples. Neither is sent to tasks, since each partition brings its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    recipe: Recipe
    folder: str | None = None
    generator: ResolvedModel
    generator_training: TrainingRecord | None = None
    guide: ResolvedModel | None = None
    scorer: ResolvedModel | None = None
    encoder: ResolvedModel | None = None
    verifier: ResolvedModel | None = None
    annotator: ResolvedModel | None = None
    language_model: ResolvedModel | None = None
    teacher: TeacherLabels | None = None
    references: dict[str, tuple[str, ...]] = {}
    repairs: tuple[RepairRecord, ...] = Field((), exclude=True)
    reviews: tuple[Review, ...] = Field((), exclude=True)

    @property
    def models(self) -> dict[str, ResolvedModel]:
        """Every model that takes part, by its role."""
        roles = ("generator", "guide", "scorer", "encoder", "verifier", "annotator", "language_model")
        return {role: model for role in roles if (model := getattr(self, role)) is not None}


class Slot(BaseModel):
    """A filled-in part of a prompt: characters [start, end) hold `value`; `name` is "concept" or an attribute.

    Fields of this and of SampleSpec are in alphabetic order: so their JSON is canonical as pydantic writes it.
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
    """One image to be: `replica` counts how often its prompt was used before in the same attempt."""

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
        """What a person reads in logs and in the Prefect page."""
        return f"{self.concept} r{self.attempt} {self.source} #{self.part}"


class InversionPlace(BaseModel):
    """One image of an inversion; without `sample_id` it only fills its batch and is thrown away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_id: str | None
    seed: int
    label: int


class InversionJob(BaseModel):
    """One run of an inversion: the partitions of that round, prompt source and number of all concepts, together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: BuildContext
    attempt: int
    source: str
    part: int
    places: tuple[InversionPlace, ...]

    @property
    def label(self) -> str:
        """What a person reads in logs."""
        return f"r{self.attempt} {self.source} #{self.part}"
