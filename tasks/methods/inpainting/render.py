"""Draw into photographs, batch by batch: encode, blend, decode, and put the drawing back.

As in plain sampling, the seed of a sample alone decides its noise, and a repeated batch gives the same bytes.

Letters of shapes: B images, C channels, H and W latent rows and columns; h and w of the generator's images in pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.schemas.under_way import tell
from tailforge.tasks.methods.inpainting.blend import Canvas, blend_latents, find_cells, steps_within
from tailforge.tasks.methods.inpainting.change import measure_own_change
from tailforge.tasks.methods.inpainting.shapes import Region
from tailforge.tasks.methods.inpainting.windows import (
    Pixels,
    Window,
    composite,
    fit_region,
    restore_window,
    soften_edge,
)
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import ImageGenerator, join_conditionings
from tailforge.tasks.methods.sampling.memory import within_memory
from tailforge.tasks.methods.sampling.origin import describe_batch
from tailforge.tasks.methods.sampling.pixels import to_pixels, to_tensor
from tailforge.tasks.methods.sampling.plain import (
    NOT_FINITE,
    UNREAD,
    Rendered,
    Sampling,
    Text,
    choose_prediction,
    cut_batches,
    draw_noise,
    hold_all,
    out_of_memory,
    prepare_sampling,
    prepare_scheduler,
    prepare_texts,
    record_words,
)

NO_REGION = "no region of the masks is on the part"


@dataclass(frozen=True)
class Layout:
    """What is drawn where, for one sample. Without regions nothing is drawn.

    `photograph` [H, W, 3] with its `regions` [H, W]; `window` of it, brought to the generator's size as `frame`
    [h, w, 3], in which it is at `place` (top, left, height, width). `facts` say where they come from.
    """

    photograph: Pixels
    regions: list[Region]
    window: Window
    frame: Pixels
    place: tuple[int, int, int, int]
    facts: dict[str, Any]

    @property
    def cells(self) -> Region:
        """Return the regions in the generator's image, [h, w]."""
        whole = np.any(self.regions, axis=0)[self.window.inside]
        return fit_region(whole, self.place, (self.frame.shape[0], self.frame.shape[1]))

    def put_back(self, drawn: Pixels, shares: NDArray[np.float32]) -> Pixels:
        """Return the photograph [H, W, 3] with the drawing [h, w, 3] by its share per pixel [H, W]."""
        return composite(self.photograph, restore_window(drawn, self.place, self.window), shares, self.window)


@dataclass(frozen=True)
class Drawn:
    """A decoded sample: its image and its photograph's window, which the autoencoder alone has changed, [h, w, 3].

    None for pixels that are not finite. `origin`: facts of the batch.
    """

    sample: SampleSpec
    layout: Layout
    image: Pixels | None
    alone: Pixels | None
    origin: dict[str, Any]


Layouts = Callable[[SampleSpec, tuple[int, int]], Layout | None]  # of a sample, for the generator's h and w


def render_inpainted(
    model: ImageGenerator,
    samples: Sequence[SampleSpec],
    layouts: Layouts,
    settings: InpaintEngine,
    recording: Recording | None,
    clock: Clock,
) -> Iterator[Rendered]:
    """Draw every sample into its photograph, in order. Errors: RecipeError for an image size; those of `layouts`."""
    sampling = prepare_sampling(model, settings, recording, clock)
    model.latent_shape(*sampling.size)

    # Batch by batch; a sample without a region fails, and draws nothing.
    texts: dict[str, Text] = {}
    for number, batch in enumerate(cut_batches(samples, settings.batch_size)):
        tell("image", number * settings.batch_size, len(samples))
        with clock.phase("read"):
            found = {sample.sample_id: layouts(sample, sampling.size) for sample in batch}
        known = {sample_id: layout for sample_id, layout in found.items() if layout is not None}
        drawn = [sample for sample in batch if sample.sample_id in known]
        with hold_all(sampling):
            prepare_texts(sampling, drawn, texts)
            work = ("inpaint", sampling.size)
            render = partial(_render_batch, sampling, settings, texts, known)
            rendered = within_memory(render, drawn, out_of_memory, model, work)
        made = {each.sample_id: each for each in rendered}
        for sample in batch:
            yield made.get(sample.sample_id) or Rendered(sample.sample_id, NO_REGION, None, None, {})


@torch.inference_mode()
def _render_batch(
    sampling: Sampling,
    settings: InpaintEngine,
    texts: dict[str, Text],
    layouts: dict[str, Layout],
    batch: Sequence[SampleSpec],
) -> list[Rendered]:
    """Draw one batch, all of whose samples have a layout."""
    model, own = sampling.model, [layouts[sample.sample_id] for sample in batch]
    generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in batch]

    # The canvas: clean latents of the photographs, the samples' noise, and the cells of the regions.
    with sampling.clock.phase("encode"):
        latents = model.encode(to_tensor(np.stack([each.frame for each in own]), model.device))
        noise = draw_noise(model, generators, *sampling.size)
        canvas = Canvas(latents, noise, find_cells(torch.from_numpy(np.stack([each.cells for each in own])), latents))

    # Blend step by step; the capture's hooks record the words' attention on the way.
    with sampling.clock.phase("sample"):
        scheduler = prepare_scheduler(sampling, settings.steps)
        text = join_conditionings([texts[sample.prompt].conditioning for sample in batch])
        steps = steps_within(scheduler, settings.strength) * settings.resample
        words = [texts[sample.prompt].words for sample in batch]
        capture = record_words(sampling, scheduler, noise, words, steps) if steps else None
        predict = choose_prediction(model, scheduler, text, sampling.negative, settings.guidance, None)
        with capture or nullcontext():
            drawn = blend_latents(scheduler, predict, canvas, settings.strength, generators, settings.resample)

    # Decode the drawing, and the photographs alone: their difference is the autoencoder's own.
    with sampling.clock.phase("decode"):
        images, alone = _decode(model, drawn), _decode(model, latents)
        origin = describe_batch(scheduler, len(batch), model.device)
        return [
            _finish(
                Drawn(sample, own[row], images[row], alone[row], {**origin, "batch_row": row}),
                texts[sample.prompt],
                None if capture is None else capture.maps(row),
                settings.feather,
            )
            for row, sample in enumerate(batch)
        ]


def _decode(model: ImageGenerator, latents: Tensor) -> list[NDArray[np.uint8] | None]:
    """Return the images of latents [B, C, H, W], [h, w, 3] each; None for one that is not finite."""
    images = model.decode(latents).float()
    finite = images.isfinite().flatten(1).all(1).tolist()
    return [pixels if sound else None for pixels, sound in zip(to_pixels(images), finite, strict=True)]


def _finish(drawn: Drawn, text: Text, attention: NDArray[np.float16] | None, feather: int) -> Rendered:
    """Return the outcome of a sample: the photograph with the drawing, or the reason of a failure."""
    layout, facts = drawn.layout, {**drawn.origin, **drawn.layout.facts}
    error = UNREAD if not text.reads_concept else None
    if drawn.image is None or drawn.alone is None:
        error = NOT_FINITE
    if error is not None:
        return Rendered(drawn.sample.sample_id, error, None, None, facts)

    # The autoencoder's own change goes through the same edge.
    assert drawn.image is not None
    assert drawn.alone is not None
    shares = soften_edge(layout.regions, feather)
    own = measure_own_change(layout.photograph, layout.put_back(drawn.alone, shares), layout.regions)
    pixels = layout.put_back(drawn.image, shares)
    return Rendered(drawn.sample.sample_id, None, pixels, attention, facts | {"own_change": round(own, 3)})
