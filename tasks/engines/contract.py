"""What a build asks of an engine. Callers get theirs from registry.py and never ask which one it is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.jobs import (
    BuildContext,
    InversionJob,
    PartitionJob,
    Prompt,
    ResolvedModel,
    SampleSpec,
    TeacherLabels,
)
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import Rendered
from tailforge.tasks.models.generator_files import check_generator
from tailforge.tasks.models.generator_settings import check_settings
from tailforge.tasks.models.pretrained import PIPELINE, naming, require_kind
from tailforge.tasks.models.text_readers import TextReader, load_readers

S = TypeVar("S", bound=EngineSettings)
Prompts = Mapping[str, Sequence[Prompt]]  # of each concept


class Preparation(ABC):
    """Work on each concept before the first round. `stage`: the stage that does it."""

    stage: ClassVar[str]

    @abstractmethod
    def list_jobs(self, build: BuildContext, prompts: Prompts) -> list[PartitionJob]:
        """Return the jobs of these concepts, concept by concept."""

    @abstractmethod
    def count_rows(self, job: PartitionJob) -> int:
        """Return the rows that a job makes."""

    @abstractmethod
    def read(self, inputs: EngineInputs) -> tuple[EngineInputs, ...]:
        """Return what the stage reads beside its job, from the `inputs` made before."""

    @abstractmethod
    def hand_on(self, inputs: Mapping[str, EngineInputs], made: Mapping[str, list[Receipt]]) -> dict[str, EngineInputs]:
        """Return the inputs of each concept's samples, with the receipts `made` for each concept."""


class Round(ABC):
    """Work before the samples of each round, on all concepts together. `stage`: the stage that does it.

    A run of it makes the partitions with one round, prompt source and number of all concepts.
    """

    stage: ClassVar[str]

    @abstractmethod
    def make_job(self, build: BuildContext, prompts: Prompts, attempt: int, source: str, part: int) -> InversionJob:
        """Return one run."""

    @abstractmethod
    def count_samples(self, build: BuildContext) -> int:
        """Return the samples of one concept that a run makes, which are its partition."""

    @abstractmethod
    def hand_on(self, made: Receipt) -> EngineInputs:
        """Return the inputs of the partitions that a run made."""


class Engine(ABC, Generic[S]):
    """An engine with its settings. The base answers for one that draws with a pipeline and prepares nothing."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def render(
        self, job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
    ) -> Iterator[Rendered]:
        """Yield samples of one job, in order, cut into batches from the first on; load what models they need."""

    def render_noise(self, job: PartitionJob, sample: SampleSpec, noise: NDArray[np.float16], clock: Clock) -> Rendered:
        """Return one sample made again from noise that was kept, without choosing it again."""
        raise NotImplementedError(f"{type(self).__name__} keeps no noise")

    @property
    def method(self) -> Mapping[str, str]:
        """Return what decides an image beside settings, models and inputs, as part of its address."""
        return {}

    @property
    def preparations(self) -> Sequence[Preparation]:
        """Return what is made before the first round, in order."""
        return ()

    @property
    def round(self) -> Round | None:
        """Return what is made before the samples of each round; None for an engine that makes each partition alone."""
        return None

    @property
    def draws_at_once(self) -> bool:
        """Whether samples need nothing but their prompts."""
        return not self.preparations and self.round is None

    def prompts_for(self, concept: str, prompts: Prompts) -> Prompts:
        """Return the prompts that the samples of one concept follow from: its own by default."""
        return {concept: prompts[concept]}

    def load_readers(self, build: BuildContext) -> tuple[TextReader, ...]:
        """Return the text encoders that read the prompts. Errors: ModelError."""
        return load_readers(build.generator)

    def check_generator(self, recipe: Recipe, generator: ResolvedModel, folder: Path) -> TeacherLabels | None:
        """Refuse a generator that the engine cannot use; return the classes of a teacher, None for a pipeline.

        Errors: ModelError, RecipeError.
        """
        with naming("generator"):
            require_kind(generator, "generator", PIPELINE, "; engine natural_inversion alone takes a classifier")
            check_generator(generator)
        check_settings(recipe, generator)
        return None

    def find_encoder(self, recipe: Recipe, generator: ResolvedModel, folder: Path) -> ResolvedModel | None:
        """Return the model that compares images with references, found and checked; None where none does.

        Errors: ModelError, RecipeError.
        """
        return None

    def check_references(self, references: Mapping[str, Sequence[str]]) -> None:
        """Refuse concepts with too few photographs. `references`: their digests by concept. Errors: RecipeError."""
