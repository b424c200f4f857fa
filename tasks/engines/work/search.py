"""Search noise for samples with the engines seed_select, best_of_n and zero_order, and render them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.jobs import PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.settings.engines import SearchEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.engines.work.search_inputs import load_search, load_seeds
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.methods.seed_select.engine import render_kept_noise, render_searched
from tailforge.tasks.models.text_to_image import load_build_generator


def render(
    engine: Engine[SearchEngine], job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
) -> Iterator[Rendered]:
    """Search noise for samples and render them, in order, in batches from the first sample on.

    Errors: ModelError, RecipeError, EngineError.
    """
    with clock.phase("load"):
        model, goal = load_search(job, inputs)
        if inputs.seeds:
            goal = replace(goal, seeds=load_seeds(job.build.store, inputs.model_dump_json(), model.device))
    return render_searched(model, samples, engine.settings, goal, job.build.recipe.annotation.recorded, clock)


def render_noise(
    engine: Engine[SearchEngine], job: PartitionJob, sample: SampleSpec, noise: NDArray[np.float16], clock: Clock
) -> Rendered:
    """Render one sample again from its stored noise [C, H, W], without a search. Errors: ModelError."""
    model = load_build_generator(job.build)
    return render_kept_noise(model, sample, noise, engine.settings, job.build.recipe.annotation.recorded, clock)
