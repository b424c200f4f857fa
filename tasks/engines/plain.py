"""Engine "plain": text-to-image sampling as the pipeline does it; see tasks/methods/sampling/plain.py."""

from collections.abc import Iterator, Sequence

from tailforge.schemas.jobs import PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import Rendered, render_plain
from tailforge.tasks.models.text_to_image import load_build_generator, load_build_guide


class PlainSampling(Engine[PlainEngine]):
    """Each image from the noise of its seed."""

    def render(
        self, job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
    ) -> Iterator[Rendered]:
        with clock.phase("load"):
            model = load_build_generator(job.build)
            guide = load_build_guide(job.build)
        return render_plain(model, samples, self.settings, job.build.recipe.annotation.recorded, clock, guide)
