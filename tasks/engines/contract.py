"""Define the interface of engines. Callers use `engine_of` in registry.py and do not depend on the kind of engine.

Letters of shapes: C channels, H and W rows and columns of latents.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import (
    BuildContext,
    InversionJob,
    LocatedImages,
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
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.models.generator_files import check_generator
from tailforge.tasks.models.generator_settings import check_settings
from tailforge.tasks.models.kinds import PIPELINE, naming, require_kind
from tailforge.tasks.models.text_readers import TextReader, load_readers

S = TypeVar("S", bound=EngineSettings)
Prompts = Mapping[str, Sequence[Prompt]]  # by concept
check_control = when_called("tasks.models.controlled_generator", "check_control")
check_loras = when_called("tasks.models.loras", "check_loras")


class Preparation(ABC):
    """Work on each concept before the first round. `stage`: the name of the stage."""

    stage: ClassVar[str]

    @abstractmethod
    def list_jobs(self, build: BuildContext, prompts: Prompts) -> list[PartitionJob]:
        """Return the jobs of these concepts, concept by concept."""

    @abstractmethod
    def count_rows(self, job: PartitionJob) -> int:
        """Return the rows that a job makes."""

    @abstractmethod
    def read(self, inputs: EngineInputs) -> tuple[EngineInputs, ...]:
        """Return the inputs of the stage beside its job. `inputs`: the results of earlier preparations."""

    @abstractmethod
    def hand_on(self, inputs: Mapping[str, EngineInputs], made: Mapping[str, list[Receipt]]) -> dict[str, EngineInputs]:
        """Return the inputs of each concept's samples: `inputs` with the receipts `made` for each concept."""


class Round(ABC):
    """Work on all concepts together before the samples of each round. `stage`: the name of the stage.

    A run makes one partition of every concept, for one round, prompt source and number.
    """

    stage: ClassVar[str]

    @abstractmethod
    def make_job(self, build: BuildContext, prompts: Prompts, attempt: int, source: str, part: int) -> InversionJob:
        """Return the job of one run."""

    @abstractmethod
    def count_samples(self, build: BuildContext) -> int:
        """Return the samples of one concept that a run makes: the size of a partition."""

    @abstractmethod
    def hand_on(self, made: Receipt) -> EngineInputs:
        """Return the inputs of the partitions that read a run's receipt."""


class Engine(ABC, Generic[S]):
    """An engine with its settings. The defaults fit an engine that uses a pipeline and prepares nothing."""

    libraries: ClassVar[Sequence[str]] = ("torch", "diffusers", "transformers")  # those that decide pixels

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def render(
        self, job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
    ) -> Iterator[Rendered]:
        """Render samples of one job in order, in batches from the first sample on, and load the models.

        Errors: ModelError, RecipeError, EngineError.
        """

    def render_noise(self, job: PartitionJob, sample: SampleSpec, noise: NDArray[np.float16], clock: Clock) -> Rendered:
        """Render one sample again from its stored noise [C, H, W], without a search.

        Errors: NotImplementedError for an engine that stores no noise.
        """
        raise NotImplementedError(f"{type(self).__name__} stores no noise")

    @property
    def method(self) -> Mapping[str, str]:
        """Return the versions of the method, which are part of the fingerprint beside settings, models and inputs."""
        return {}

    @property
    def preparations(self) -> Sequence[Preparation]:
        """Return the preparations before the first round, in order."""
        return ()

    @property
    def round(self) -> Round | None:
        """Return the work before the samples of each round, or None if each partition is made alone."""
        return None

    @property
    def draws_at_once(self) -> bool:
        """Return whether samples need only their prompts."""
        return not self.preparations and self.round is None

    def prompts_for(self, concept: str, prompts: Prompts) -> Prompts:
        """Return the prompts on which the samples of one concept depend: its own by default."""
        return {concept: prompts[concept]}

    def load_readers(self, build: BuildContext) -> tuple[TextReader, ...]:
        """Return the text encoders that read the prompts. Errors: ModelError."""
        return load_readers(build.require_generator())

    def check_generator(self, recipe: Recipe, generator: ResolvedModel, folder: Path) -> TeacherLabels | None:
        """Check that the engine can use a generator. Return the classes of a teacher, or None for a pipeline.

        Errors: ModelError, RecipeError.
        """
        with naming("generator"):
            require_kind(generator, "generator", PIPELINE, "; engine natural_inversion alone takes a classifier")
            check_generator(generator)
            if generator.loras:
                check_loras(generator)
            if generator.control is not None:
                check_control(generator)
        check_settings(recipe, generator)
        return None

    def find_encoder(self, recipe: Recipe, generator: ResolvedModel, folder: Path) -> ResolvedModel | None:
        """Find and check the model that compares images with references. Return None if the engine uses none.

        Errors: ModelError, RecipeError.
        """
        return None

    def find_images(self, recipe: Recipe, folder: Path) -> dict[str, LocatedImages]:
        """Find and check the images that the engine reads, by their place in the recipe. `folder`: the recipe's.

        Errors: NotFoundError, ImagesError.
        """
        return {}

    def check_references(self, references: Mapping[str, Sequence[str]]) -> None:
        """Check the number of references per concept. `references`: their digests by concept.

        Errors: RecipeError if a concept has too few.
        """
