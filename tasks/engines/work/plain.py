"""Draw samples with the engine "plain"."""

from collections.abc import Iterator, Sequence

from tailforge.schemas.jobs import PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.models.text_to_image import load_build_generator, load_build_guide


def render(
    engine: Engine[PlainEngine], job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
) -> Iterator[Rendered]:
    """Render samples in order, in batches from the first sample on. Errors: ModelError, RecipeError."""
    with clock.phase("load"):
        model = load_build_generator(job.build)
        guide = load_build_guide(job.build)
    return render_plain(model, samples, engine.settings, job.build.recipe.annotation.recorded, clock, guide)
