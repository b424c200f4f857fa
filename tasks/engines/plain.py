"""Define the engine "plain": text-to-image sampling with a diffusers pipeline's steps.

tasks/methods/sampling/plain.py holds the method.
"""

from collections.abc import Iterator, Sequence

from tailforge.schemas.jobs import PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import Rendered, render_plain
from tailforge.tasks.models.text_to_image import load_build_generator, load_build_guide


class PlainSampling(Engine[PlainEngine]):
    """Sampling without a search: the seed decides the noise of an image."""

    def render(
        self, job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
    ) -> Iterator[Rendered]:
        """Render samples in order, in batches from the first sample on. Errors: ModelError, RecipeError."""
        with clock.phase("load"):
            model = load_build_generator(job.build)
            guide = load_build_guide(job.build)
        return render_plain(model, samples, self.settings, job.build.recipe.annotation.recorded, clock, guide)
