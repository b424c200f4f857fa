"""Draw into photographs, batch by batch: encode, search if asked, blend, decode, and put the drawing back.

As in plain sampling, the seed of a sample alone decides its noise, and a repeated batch gives the same bytes.

Letters of shapes: B images, C channels, H and W latent rows and columns; h and w of the generator's images in pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
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
from tailforge.tasks.methods.inpainting.change import share_drawing
from tailforge.tasks.methods.inpainting.regions import NO_REGION
from tailforge.tasks.methods.inpainting.search import Guide, choose_seeds, describe_choice
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
from tailforge.tasks.methods.sampling.generator import (
    Conditioning,
    ImageGenerator,
    Scheduler,
    join_conditionings,
)
from tailforge.tasks.methods.sampling.memory import within_memory
from tailforge.tasks.methods.sampling.origin import describe_batch
from tailforge.tasks.methods.sampling.pixels import to_pixels, to_tensor
from tailforge.tasks.methods.sampling.plain import (
    NOT_FINITE,
    UNREAD,
    Sampling,
    Text,
    choose_prediction,
    draw_noise,
    hold_all,
    out_of_memory,
    prepare_sampling,
    prepare_scheduler,
    prepare_texts,
    record_words,
)
from tailforge.tasks.methods.sampling.rendered import Rendered, cut_batches
from tailforge.tasks.methods.seed_select.search import require_deterministic


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

    def put_back(self, drawn: Pixels, alone: Pixels, edges: NDArray[np.float32]) -> tuple[Pixels, float]:
        """Return the photograph [H, W, 3] with what was drawn [h, w, 3], and the autoencoder's own change.

        `alone`: the window [h, w, 3] after the autoencoder alone. `edges`: largest share of the drawing per pixel,
        [H, W].
        """
        # Both at the photograph's size, whole in the regions.
        whole = soften_edge(self.regions, 0)
        restored, plain = (restore_window(each, self.place, self.window) for each in (drawn, alone))
        ours, before = (composite(self.photograph, each, whole, self.window) for each in (restored, plain))

        # The photograph stays where nothing was drawn.
        shares, own = share_drawing(self.photograph, before, ours, self.regions)
        return composite(self.photograph, restored, edges * shares, self.window), own


@dataclass(frozen=True)
class Drawn:
    """A decoded sample: its image and its photograph's window, which the autoencoder alone has changed, [h, w, 3].

    None for pixels that are not finite. `edges`: as for `Layout.put_back`. `origin`: facts of the batch and of the
    search.
    """

    sample: SampleSpec
    layout: Layout
    edges: NDArray[np.float32]
    image: Pixels | None
    alone: Pixels | None
    origin: dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """Samples with their layouts, the `edges` of their drawings [H, W], and their prompts as conditioning [B rows]."""

    samples: Sequence[SampleSpec]
    layouts: list[Layout]
    edges: list[NDArray[np.float32]]
    text: Conditioning

    @property
    def frames(self) -> Tensor:
        """Return the photographs' windows at the generator's size, [B, 3, h, w] in -1..1."""
        return to_tensor(np.stack([each.frame for each in self.layouts]))

    @property
    def masks(self) -> Tensor:
        """Return the regions at the generator's size, bool [B, h, w]."""
        return torch.from_numpy(np.stack([each.cells for each in self.layouts]))


@dataclass(frozen=True)
class Studio:
    """Models and settings of all batches of one call. `guide`: it looks at candidates; None without a search."""

    sampling: Sampling
    settings: InpaintEngine
    guide: Guide | None

    def blend(
        self, scheduler: Scheduler, text: Conditioning, canvas: Canvas, generators: Sequence[torch.Generator] = ()
    ) -> Tensor:
        """Return the drawn latents of a batch, [B, C, H, W]. The scheduler's timesteps are set."""
        # Guidance first, then the steps that it predicts.
        model, negative, settings = self.sampling.model, self.sampling.negative, self.settings
        predict = choose_prediction(model, scheduler, text, negative, settings.guidance, None)
        return blend_latents(scheduler, predict, canvas, settings.strength, generators, settings.resample)

    def count_calls(self, steps: int) -> int:
        """Return the rows through the denoiser per drawing with this many steps."""
        # Guidance takes two rows per step, and RePaint's resampling takes each step again.
        branches = 1 if self.sampling.negative is None else 2
        scheduler, blends = prepare_scheduler(self.sampling, steps), not self.sampling.model.inpaints
        taken = steps_within(scheduler, self.settings.strength, blends)
        return branches * len(taken) * self.settings.resample


Layouts = Callable[[SampleSpec, tuple[int, int]], Layout | None]  # of a sample, for the generator's h and w


def render_inpainted(
    model: ImageGenerator,
    samples: Sequence[SampleSpec],
    layouts: Layouts,
    settings: InpaintEngine,
    recording: Recording | None,
    clock: Clock,
    guide: Guide | None = None,
) -> Iterator[Rendered]:
    """Draw every sample into its photograph, in order. With a `guide`, search for the noise of the regions.

    Errors: RecipeError for an image size, and for a scheduler that adds noise to a search; those of `layouts`.
    """
    sampling = prepare_sampling(model, settings, recording, clock)
    model.latent_shape(*sampling.size)
    if guide is not None:
        require_deterministic(sampling)

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
            render = partial(_render_batch, Studio(sampling, settings, guide), texts, known)
            rendered = within_memory(render, drawn, out_of_memory, model, work)
        made = {each.sample_id: each for each in rendered}
        for sample in batch:
            yield made.get(sample.sample_id) or Rendered(sample.sample_id, NO_REGION, None, None, {})


@torch.inference_mode()
def _render_batch(
    studio: Studio, texts: dict[str, Text], layouts: dict[str, Layout], samples: Sequence[SampleSpec]
) -> list[Rendered]:
    """Draw one batch, all of whose samples have a layout."""
    sampling, settings, own = studio.sampling, studio.settings, [layouts[sample.sample_id] for sample in samples]
    model, clock = sampling.model, sampling.clock
    generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in samples]
    text = join_conditionings([texts[sample.prompt].conditioning for sample in samples])
    batch = Batch(samples, own, [soften_edge(each.regions, settings.feather) for each in own], text)

    # The photographs' latents, and the canvas to draw on.
    with clock.phase("encode"):
        latents = model.encode(batch.frames.to(model.device))
        canvas, fill = _prepare_canvas(studio, batch, latents, generators)
        batch = replace(batch, text=replace(text, fill=fill))

    # The photographs after the autoencoder alone, to tell its changes from drawings.
    with clock.phase("decode"):
        alone = _decode(model, latents)
    canvas, found = _search(studio, batch, canvas, alone)

    # Blend step by step; the capture's hooks record the words' attention on the way.
    with clock.phase("sample"):
        scheduler = prepare_scheduler(sampling, settings.steps)
        steps = steps_within(scheduler, settings.strength, canvas.blends) * settings.resample
        words = [texts[sample.prompt].words for sample in samples]
        capture = record_words(sampling, scheduler, canvas.noise, words, steps) if steps else None
        with capture or nullcontext():
            drawn = studio.blend(scheduler, batch.text, canvas, generators)

    with clock.phase("decode"):
        images = _decode(model, drawn)
        origin = describe_batch(scheduler, len(samples), model.device)
        return [
            _finish(
                Drawn(
                    sample,
                    own[row],
                    batch.edges[row],
                    images[row],
                    alone[row],
                    {**origin, **found[row], "batch_row": row},
                ),
                texts[sample.prompt],
                None if capture is None else capture.maps(row),
            )
            for row, sample in enumerate(samples)
        ]


def _prepare_canvas(
    studio: Studio, batch: Batch, latents: Tensor, generators: Sequence[torch.Generator]
) -> tuple[Canvas, Tensor | None]:
    """Return the canvas over latents [B, C, H, W], and what a network for inpainting reads as well, [B, C', H, W].

    `generators` give the samples' noise. The draws are in the order of diffusers' pipelines for inpainting.
    """
    model, size = studio.sampling.model, studio.sampling.size
    cells = find_cells(batch.masks, latents)
    if not model.inpaints:
        return Canvas(latents, draw_noise(model, generators, *size), cells), None

    # The start that noise is added to, the noise, then the masked photograph.
    frames = batch.frames.to(model.device)
    start = latents if studio.settings.strength == 1 else model.encode(frames, generators)
    noise = draw_noise(model, generators, *size)
    fill = model.prepare_fill(frames, batch.masks[:, None].to(frames), generators)
    return Canvas(start, noise, cells, blends=False), fill


def _search(
    studio: Studio, batch: Batch, canvas: Canvas, alone: Sequence[Pixels | None]
) -> tuple[Canvas, list[dict[str, Any]]]:
    """Return the canvas with the chosen noise in its cells, and the facts of each choice; without a guide, none.

    `alone`: the windows [h, w, 3] after the autoencoder alone; None for one that is not finite.
    """
    guide, sampling = studio.guide, studio.sampling
    if guide is None:
        return canvas, [{} for _ in batch.samples]
    few = guide.settings.count_few(studio.settings.steps)

    # A candidate's noise is its own in the cells alone.
    def mix(seeds: Sequence[int]) -> Canvas:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        fresh = draw_noise(sampling.model, generators, *sampling.size)
        return replace(canvas, noise=torch.where(canvas.cells, fresh, canvas.noise))

    # Draw with few steps, and put the drawings into their photographs.
    def draw(seeds: Sequence[int]) -> list[Pixels | None]:
        drawn = studio.blend(prepare_scheduler(sampling, few), batch.text, mix(seeds))
        rows = zip(_decode(sampling.model, drawn), alone, batch.layouts, batch.edges, strict=True)
        return [
            None if image is None or plain is None else layout.put_back(image, plain, edges)[0]
            for image, plain, layout, edges in rows
        ]

    # The guide looks at the drawings; the chosen noise stays on the canvas.
    with sampling.clock.phase("search"):
        photographs = [(layout.photograph, layout.regions) for layout in batch.layouts]
        choices = choose_seeds(guide, batch.samples, photographs, draw)
    calls = guide.settings.candidates * studio.count_calls(few) + studio.count_calls(studio.settings.steps)
    return mix([each.seed for each in choices]), [describe_choice(each, guide, calls) for each in choices]


def _decode(model: ImageGenerator, latents: Tensor) -> list[NDArray[np.uint8] | None]:
    """Return the images of latents [B, C, H, W], [h, w, 3] each; None for one that is not finite."""
    # A row that is not finite fails alone.
    images = model.decode(latents).float()
    finite = images.isfinite().flatten(1).all(1).tolist()
    return [pixels if sound else None for pixels, sound in zip(to_pixels(images), finite, strict=True)]


def _finish(drawn: Drawn, text: Text, attention: NDArray[np.float16] | None) -> Rendered:
    """Return the outcome of a sample: the photograph with the drawing, or the reason of a failure."""
    layout, facts = drawn.layout, {**drawn.origin, **drawn.layout.facts}
    error = UNREAD if not text.reads_concept else None
    if drawn.image is None or drawn.alone is None:
        error = NOT_FINITE
    if error is not None:
        return Rendered(drawn.sample.sample_id, error, None, None, facts)

    assert drawn.image is not None
    assert drawn.alone is not None
    pixels, own = layout.put_back(drawn.image, drawn.alone, drawn.edges)
    return Rendered(drawn.sample.sample_id, None, pixels, attention, facts | {"own_change": round(own, 3)})
