"""Lay out samples of engine "inpaint" in their photographs, and draw them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.images.resizing import place_inside, resize_image
from tailforge.schemas.jobs import BuildContext, PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.engines.work.drawing import Chosen, choose_for_sample
from tailforge.tasks.engines.work.region_search import load_guide
from tailforge.tasks.methods.inpainting.change import agree_with, spread_attention
from tailforge.tasks.methods.inpainting.render import Layout, render_inpainted
from tailforge.tasks.methods.inpainting.search import Guide
from tailforge.tasks.methods.inpainting.shapes import Region
from tailforge.tasks.methods.inpainting.windows import choose_window
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.models.text_to_image import load_build_generator


def render(
    engine: Engine[InpaintEngine], job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
) -> Iterator[Rendered]:
    """Draw samples in order, in batches from the first sample on. Errors: ModelError, RecipeError, ImagesError."""
    with clock.phase("load"):
        model, guide = load_build_generator(job.build), _load_guide(engine.settings, job.build, job.concept)

    def lay_out_sample(sample: SampleSpec, size: tuple[int, int]) -> Layout | None:
        """Return the layout of a sample for the generator's height and width; None without regions."""
        chosen = choose_for_sample(job.build, job.concept, sample.sample_id)
        return lay_out(chosen, size) if chosen.regions else None

    recording = job.build.recipe.annotation.recorded
    return render_inpainted(model, samples, lay_out_sample, engine.settings, recording, clock, guide)


def _load_guide(settings: InpaintEngine, build: BuildContext, concept: str) -> Guide | None:
    """Return the guide of a concept's search, or None without a search. Errors: ImagesError, ModelError."""
    if settings.search is None:
        return None
    assert build.encoder is not None
    return load_guide(build.images[settings.find_regions(concept)[1]], build.encoder, settings.search)


def lay_out(chosen: Chosen, size: tuple[int, int]) -> Layout:
    """Return the photograph, regions and window of a sample; `size`: h and w of the generator."""
    # The window, brought to the generator's size: scaled to fit in, with black around.
    window = choose_window(chosen.regions, size)
    seen = Image.fromarray(chosen.source.pixels[window.inside])
    frame = np.asarray(resize_image(seen, size, "pad"), np.uint8)
    place = place_inside((window.height, window.width), size)
    facts = chosen.describe() | {"window": list(astuple(window)), "frame": list(size)}
    return Layout(chosen.source.pixels, chosen.regions, window, frame, place, facts)


def agree_in_window(
    chosen: Chosen,
    size: Sequence[int],
    attention: NDArray[np.float16],
    slots: Sequence[Mapping[str, Any]],
    mask: Region,
) -> float | None:
    """Return how well the attention [slot, h, w] to the concept agrees with a mask [H, W]; None without a map.

    `size`: h and w of the generator.
    """
    row = next((row for row, slot in enumerate(slots) if slot["name"] == "concept"), None)
    if row is None:
        return None
    layout = lay_out(chosen, (size[0], size[1]))
    soft = spread_attention(attention[row].astype(np.float32), layout.place, layout.frame.shape[:2], layout.window)
    return agree_with(soft, mask[layout.window.inside])
