"""A toy engine in one file: an image of noise with the concept in its left half, in a colour of stage `colours`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext, PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.engines.contract import Engine, Preparation, Prompts
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import Rendered

SIDE = 32


class ToySettings(EngineSettings):
    """Settings of engine toy."""

    kind: Literal["toy"] = "toy"
    batch_size: int = Field(2, ge=1)
    contrast: float = Field(0.5, ge=0, le=1)
    coloured: bool = False


class Colours(Preparation):
    """A colour per concept, made by the toy stage."""

    stage: ClassVar[str] = "colours"

    def list_jobs(self, build: BuildContext, prompts: Prompts) -> list[PartitionJob]:
        return [
            PartitionJob(build=build, concept=concept, attempt=0, source="colour", part=0, samples=())
            for concept in prompts
        ]

    def count_rows(self, job: PartitionJob) -> int:
        return 1

    def read(self, inputs: EngineInputs) -> tuple[EngineInputs, ...]:
        return ()

    def hand_on(self, inputs: Mapping[str, EngineInputs], made: Mapping[str, list[Receipt]]) -> dict[str, EngineInputs]:
        return {concept: EngineInputs(others={self.stage: receipts[0]}) for concept, receipts in made.items()}


class Toy(Engine[ToySettings]):
    """Images from the samples' seeds, and from a colour where the recipe asks for one."""

    @property
    def preparations(self) -> Sequence[Preparation]:
        return (Colours(),) if self.settings.coloured else ()

    def render(
        self, job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
    ) -> Iterator[Rendered]:
        red = None
        if colour := inputs.others.get(Colours.stage):
            red = read_table(Store.open(job.build.store), colour)["red"][0].as_py()
        for sample in samples:
            pixels = np.random.default_rng(sample.seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            pixels[:, : SIDE // 2] = np.uint8(255 * self.settings.contrast)
            if red is not None:
                pixels[..., 0] = red
            attention = np.zeros((len(sample.slots), 16, 16), np.float16)
            attention[:, :, :8] = 1
            yield Rendered(sample.sample_id, None, pixels, attention, {})
