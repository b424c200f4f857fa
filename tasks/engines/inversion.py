"""Engine "natural_inversion": a run of batches, which mix all concepts, makes the images of their partitions."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext, InversionJob, PartitionJob, ResolvedModel, SampleSpec, TeacherLabels
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.engines.contract import Engine, Prompts, Round
from tailforge.tasks.engines.teacher_labels import find_labels
from tailforge.tasks.methods.packing.arrays import decode_array
from tailforge.tasks.methods.packing.png import decode_png
from tailforge.tasks.methods.planning.inversions import plan_run, samples_per_run
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import Rendered
from tailforge.tasks.models.text_readers import TextReader


class Inversion(Engine[NaturalInversionEngine]):
    """Images of a classifier. They are made before the samples of a round, which only pick theirs."""

    def render(
        self, job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
    ) -> Iterator[Rendered]:
        assert inputs.inversion is not None
        with clock.phase("read"):
            table = read_table(Store.open(job.build.store), inputs.inversion)
        return pick_inverted(table, samples)

    @property
    def round(self) -> Round:
        return InversionRound()

    def load_readers(self, build: BuildContext) -> tuple[TextReader, ...]:
        return ()

    def check_generator(self, recipe: Recipe, generator: ResolvedModel, folder: Path) -> TeacherLabels | None:
        return find_labels(recipe, generator, folder)


class InversionRound(Round):
    """The runs of an inversion."""

    stage: ClassVar[str] = "inversions"

    def make_job(self, build: BuildContext, prompts: Prompts, attempt: int, source: str, part: int) -> InversionJob:
        return inversion_job(build, prompts, attempt, source, part)

    def count_samples(self, build: BuildContext) -> int:
        assert build.teacher is not None
        return samples_per_run(inversion_engine(build), build.teacher)

    def hand_on(self, made: Receipt) -> EngineInputs:
        return EngineInputs(inversion=made)


def inversion_engine(build: BuildContext) -> NaturalInversionEngine:
    """Return the settings of the recipe's engine, which inverts."""
    engine = build.recipe.engine
    assert isinstance(engine, NaturalInversionEngine)
    return engine


def inversion_job(build: BuildContext, prompts: Prompts, attempt: int, source: str, part: int) -> InversionJob:
    """Return the run that makes the partitions `part` of all concepts."""
    assert build.teacher is not None
    places = plan_run(build.recipe, inversion_engine(build), build.teacher, prompts, attempt, source, part)
    return InversionJob(build=build, attempt=attempt, source=source, part=part, places=places)


def pick_inverted(inversions: pa.Table, samples: Sequence[SampleSpec]) -> Iterator[Rendered]:
    """Yield some samples of an INVERSIONS table, in their order.

    All slots of a prompt are its concept and share one map.
    """
    rows = {row["sample_id"]: row for row in inversions.to_pylist()}
    for sample in samples:
        row = rows[sample.sample_id]
        pixels = None if row["image"] is None else decode_png(row["image"])
        attention = None
        if row["attention"] is not None:
            attention = np.repeat(decode_array(row["attention"]), len(sample.slots), axis=0)
        yield Rendered(sample.sample_id, row["error"], pixels, attention, json.loads(row["record"]))
