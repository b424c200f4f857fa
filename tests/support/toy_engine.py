"""A toy engine in one file: each image is one colour, with the concept in its left half."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tailforge.schemas.jobs import PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import Rendered

SIDE = 32


class ToySettings(EngineSettings):
    """Settings of engine toy."""

    kind: Literal["toy"] = "toy"
    batch_size: int = Field(2, ge=1)
    contrast: float = Field(0.5, ge=0, le=1)


class Toy(Engine[ToySettings]):
    """Images from the samples' seeds alone."""

    def render(
        self, job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
    ) -> Iterator[Rendered]:
        for sample in samples:
            pixels = np.random.default_rng(sample.seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            pixels[:, : SIDE // 2] = np.uint8(255 * self.settings.contrast)
            attention = np.zeros((len(sample.slots), 16, 16), np.float16)
            attention[:, :, :8] = 1
            yield Rendered(sample.sample_id, None, pixels, attention, {})
