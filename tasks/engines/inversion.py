"""Define the engine "natural_inversion", of which a run makes one partition of every concept.

The batches of a run mix all concepts; see tasks/methods/planning/inversions.py.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from tailforge.catalog.store import Store
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, InversionJob, PartitionJob, ResolvedModel, SampleSpec, TeacherLabels
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.engines.contract import Engine, Prompts, Round
from tailforge.tasks.methods.packing.arrays import decode_array
from tailforge.tasks.methods.packing.png import decode_png
from tailforge.tasks.methods.planning.inversions import plan_run, samples_per_run
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.models.text_readers import TextReader

find_labels = when_called("tasks.engines.work.teacher_labels", "find_labels")


class Inversion(Engine[NaturalInversionEngine]):
    """Images from a classifier. A run makes them before the samples of a round, which only select theirs."""

    def render(
        self, job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
    ) -> Iterator[Rendered]:
        """Select samples from the images of a run, in order. Errors: DamagedArtifactError."""
        assert inputs.inversion is not None
        with clock.phase("read"):
            table = read_table(Store.open(job.build.store), inputs.inversion)
        return pick_inverted(table, samples)

    @property
    def round(self) -> Round:
        """Return the runs of an inversion."""
        return InversionRound()

    def load_readers(self, build: BuildContext) -> tuple[TextReader, ...]:
        """Return no text encoder, because a classifier reads no prompts."""
        return ()

    def check_generator(self, recipe: Recipe, generator: ResolvedModel, folder: Path) -> TeacherLabels | None:
        """Load the teacher and return its classes of the concepts. Errors: ModelError, RecipeError."""
        found: TeacherLabels = find_labels(recipe, generator, folder)
        return found


class InversionRound(Round):
    """The runs of an inversion."""

    stage: ClassVar[str] = "inversions"

    def make_job(self, build: BuildContext, prompts: Prompts, attempt: int, source: str, part: int) -> InversionJob:
        """Return the job of run `part`."""
        return inversion_job(build, prompts, attempt, source, part)

    def count_samples(self, build: BuildContext) -> int:
        """Return the samples of one concept per run."""
        assert build.teacher is not None
        return samples_per_run(inversion_engine(build), build.teacher)

    def hand_on(self, made: Receipt) -> EngineInputs:
        """Return the run's receipt as the input of its partitions."""
        return EngineInputs(inversion=made)


def inversion_engine(build: BuildContext) -> NaturalInversionEngine:
    """Return the settings of the recipe's engine, an inversion."""
    engine = build.recipe.engine
    assert isinstance(engine, NaturalInversionEngine)
    return engine


def inversion_job(build: BuildContext, prompts: Prompts, attempt: int, source: str, part: int) -> InversionJob:
    """Return the run that makes partition `part` of every concept."""
    assert build.teacher is not None
    places = plan_run(build.recipe, inversion_engine(build), build.teacher, prompts, attempt, source, part)
    return InversionJob(build=build, attempt=attempt, source=source, part=part, places=places)


def pick_inverted(inversions: pa.Table, samples: Sequence[SampleSpec]) -> Iterator[Rendered]:
    """Yield the samples with these identities from an INVERSIONS table, in the order of `samples`."""
    # Every slot of a prompt is its concept, so all slots have the same map.
    rows = {row["sample_id"]: row for row in inversions.to_pylist()}
    for sample in samples:
        row = rows[sample.sample_id]
        pixels = None if row["image"] is None else decode_png(row["image"])
        attention = None
        if row["attention"] is not None:
            attention = np.repeat(decode_array(row["attention"]), len(sample.slots), axis=0)
        yield Rendered(sample.sample_id, row["error"], pixels, attention, json.loads(row["record"]))
