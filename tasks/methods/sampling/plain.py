"""Sample images from text: the same steps as a diffusers pipeline with the same seeds, batch by batch.

A guide gives Domain Guidance (arXiv 2504.01521): another model makes the unconditional half of guidance. The guide is
usually the model that the generator was adapted from. With the scale w, the prompt c and the empty prompt 0:

    prediction = generator(x, c) + (w - 1) (generator(x, c) - guide(x, 0))

This is classifier-free guidance if the guide is the generator itself. The generator's own pass gives the masks.

A batch is a fixed slice of the plan, so a repeated batch gives the same bytes. The seed of a sample alone decides its
noise, in any batch, because each sample has its own CPU generator. If memory runs out, the batch is halved. A sample
with a blank or non-finite image fails alone, because no layer mixes the rows of a batch.

Letters of shapes: B images, C channels, H and W latent rows and columns.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.sampling import SamplingSettings
from tailforge.schemas.under_way import count, tell
from tailforge.tasks.methods.attention.choose_capture import grid_of, watch_words
from tailforge.tasks.methods.attention.cross_attention import choose_steps
from tailforge.tasks.methods.attention.word_capture import WordCapture
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import Conditioning, ImageGenerator, Scheduler, join_conditionings
from tailforge.tasks.methods.sampling.memory import within_memory
from tailforge.tasks.methods.sampling.origin import describe_batch
from tailforge.tasks.methods.sampling.pixels import to_pixels
from tailforge.tasks.methods.sampling.rendered import OUT_OF_MEMORY, Rendered, cut_batches

UNREAD = "the prompt is longer than the text encoder reads, and its concept is cut off"
NOT_FINITE = "image is not finite"
BLANK = "image is blank"

# Maps latents [B, C, H, W] and a timestep of the scheduler to the guided output of the network.
Predict = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Text:
    """An encoded prompt: its conditioning (one row) and the token positions of each slot."""

    conditioning: Conditioning
    words: list[list[int]]
    reads_concept: bool = True


@dataclass(frozen=True)
class Sampling:
    """Models and settings of all batches of one call."""

    model: ImageGenerator
    settings: SamplingSettings
    recording: Recording | None  # which attention is kept; None keeps nothing
    negative: Conditioning | None  # one row; None if guidance needs no second pass
    clock: Clock
    guide: ImageGenerator | None = None  # the reader of `negative`; None is the model itself

    @property
    def size(self) -> tuple[int, int]:
        """Return the height and width of the images, in pixels."""
        # A size that the recipe leaves out is the model's.
        height, width = self.model.default_size
        return self.settings.height or height, self.settings.width or width


def render_plain(
    model: ImageGenerator,
    samples: Sequence[SampleSpec],
    settings: SamplingSettings,
    recording: Recording | None,
    clock: Clock,
    guide: ImageGenerator | None = None,
) -> Iterator[Rendered]:
    """Render every sample in order. With a `recording`, keep the cross-attention of its slots as well.

    Each distinct prompt is encoded once and alone, so its embedding does not depend on the batch.
    Errors: RecipeError if the model or the guide cannot make the image size.
    """
    sampling = prepare_sampling(model, settings, recording, clock, guide)

    # One generator per sample: the noise of a sample does not depend on its batch.
    def render(batch: Sequence[SampleSpec]) -> list[Rendered]:
        generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in batch]
        return render_noise(sampling, batch, texts, draw_noise(model, generators, *sampling.size), generators)

    # Batch by batch. Other threads may use the models between two batches.
    texts: dict[str, Text] = {}
    for number, batch in enumerate(cut_batches(samples, settings.batch_size)):
        tell("image", number * settings.batch_size, len(samples))
        with hold_all(sampling):
            prepare_texts(sampling, batch, texts)
            rendered = within_memory(render, batch, out_of_memory, model, ("sample", sampling.size))
        yield from rendered


def prepare_sampling(
    model: ImageGenerator,
    settings: SamplingSettings,
    recording: Recording | None,
    clock: Clock,
    guide: ImageGenerator | None = None,
) -> Sampling:
    """Return what all batches of one call share, with the negative prompt encoded.

    Errors: RecipeError if the guide's latents have another shape.
    """
    # The guide, if there is one, reads the negative prompt: it makes the unconditional half.
    reader = guide or model
    with hold(reader, clock), torch.no_grad(), clock.phase("text"):
        negative = reader.encode_negative(settings.negative_prompt) if settings.guidance > 1 else None
    sampling = Sampling(model, settings, recording, negative, clock, guide)
    # Both halves of guidance are subtracted, so their latents must have one shape.
    if guide is not None:
        require_equal_shapes(model.latent_shape(*sampling.size), guide.latent_shape(*sampling.size))
    return sampling


def require_equal_shapes(model: tuple[int, int, int], guide: tuple[int, int, int]) -> None:
    """Check that two models have latents of one shape (C, H, W). Errors: RecipeError if they differ."""
    if model != guide:
        raise RecipeError(
            f"engine.guide: its latents have the shape {guide} (channels, rows, columns), those of the generator "
            f"{model}; name the generator that this one was adapted from"
        )


@contextmanager
def hold(model: ImageGenerator, clock: Clock) -> Iterator[None]:
    """Hold the generator's lock for one batch; other threads wait."""
    with clock.phase("wait"):
        model.lock.acquire()
    try:
        yield
    finally:
        model.lock.release()


@contextmanager
def hold_all(sampling: Sampling) -> Iterator[None]:
    """Hold the generator and its guide, always in the same order, so that two threads cannot block each other."""
    models = [sampling.model, *([sampling.guide] if sampling.guide else [])]
    with ExitStack() as held:
        for model in sorted(models, key=id):
            held.enter_context(hold(model, sampling.clock))
        yield


def prepare_texts(sampling: Sampling, batch: Sequence[SampleSpec], texts: dict[str, Text]) -> None:
    """Encode the prompts of a batch and add them to `texts`; no prompt is encoded twice."""
    # Not inference mode: engines that search differentiate through networks that read these tensors.
    with torch.no_grad(), sampling.clock.phase("text"):
        for sample in batch:
            texts[sample.prompt] = texts.get(sample.prompt) or prepare_text(sampling.model, sample)


def prepare_text(model: ImageGenerator, sample: SampleSpec) -> Text:
    """Encode a sample's prompt and find the tokens of its slots."""
    words = model.locate_tokens(sample.prompt, [(slot.start, slot.end) for slot in sample.slots])

    # The text encoder cuts the end of a long prompt, so the concept's last character decides if it was read.
    ends = [(slot.end - 1, slot.end) for slot in sample.slots if slot.name == "concept"]
    reads = not ends or any(model.locate_tokens(sample.prompt, ends))
    return Text(model.encode_prompt(sample.prompt), words, reads)


def out_of_memory(sample: SampleSpec) -> Rendered:
    """Return the outcome of a sample too large for the memory."""
    return Rendered(sample.sample_id, OUT_OF_MEMORY, None, None, {})


@torch.inference_mode()
def render_noise(
    sampling: Sampling,
    batch: Sequence[SampleSpec],
    texts: dict[str, Text],
    noise: Tensor,
    generators: Sequence[torch.Generator],
) -> list[Rendered]:
    """Render images and attention of one batch from `noise` [B, C, H, W]."""
    model, settings = sampling.model, sampling.settings

    # Denoise the whole batch. The capture's hooks record the words' attention on the way.
    with sampling.clock.phase("sample"):
        scheduler = prepare_scheduler(sampling, settings.steps)
        text = join_conditionings([texts[sample.prompt].conditioning for sample in batch])
        shown, controls = model.draw_controls(batch, sampling.size)
        text = replace(text, control=shown)
        capture = record_words(sampling, scheduler, noise, [texts[sample.prompt].words for sample in batch])
        with capture or nullcontext():
            latents = sample_latents(
                model, scheduler, noise, text, sampling.negative, settings.guidance, generators, sampling.guide
            )
        finite = latents.isfinite().flatten(1).all(1).tolist()

    # Decode, then test each row alone: one image that is not finite does not fail the batch.
    with sampling.clock.phase("decode"):
        images = model.decode(latents).float()
        pixels = to_pixels(images)
        finite = [a and b for a, b in zip(finite, images.isfinite().flatten(1).all(1).tolist(), strict=True)]

    # A failed row keeps its provenance, but neither pixels nor attention.
    origin = describe_batch(scheduler, len(batch), model.device)
    return [
        Rendered(
            sample.sample_id,
            error := _find_error(texts[sample.prompt], finite[row], pixels[row]),
            None if error else pixels[row],
            None if error or capture is None else capture.maps(row),
            {**origin, "batch_row": row, **controls[row]},
            agreement=None if error or capture is None else capture.agreement(row),
            latents=None if error else latents[row].float().cpu().numpy(),
        )
        for row, sample in enumerate(batch)
    ]


def _find_error(text: Text, is_finite: bool, pixels: NDArray[np.uint8]) -> str | None:
    """Return why a row failed, or None: its concept was not read, or its image is not finite or blank."""
    if not text.reads_concept:
        return UNREAD
    return NOT_FINITE if not is_finite else BLANK if np.ptp(pixels) == 0 else None


def prepare_scheduler(sampling: Sampling, steps: int) -> Scheduler:
    """Return a fresh scheduler of the recipe's kind with its timesteps set."""
    scheduler = sampling.model.make_scheduler(sampling.settings.scheduler, sampling.size)
    scheduler.set_timesteps(steps, device=sampling.model.device)
    return scheduler


def draw_noise(model: ImageGenerator, generators: Sequence[torch.Generator], height: int, width: int) -> Tensor:
    """Draw standard normal latents [B, C, H, W] for images of this size in pixels, one generator per image."""
    # Drawn on the CPU, so that the noise is equal on every device.
    shape = (1, *model.latent_shape(height, width))
    return torch.cat([torch.randn(shape, generator=generator, dtype=model.dtype) for generator in generators]).to(
        model.device
    )


def record_words(
    sampling: Sampling,
    scheduler: Scheduler,
    noise: Tensor,
    words: list[list[list[int]]],
    timesteps: Sequence[Any] | None = None,
) -> WordCapture[Any] | None:
    """Return the capture of the words for noise [B, C, H, W], or None if the recipe records nothing.

    `timesteps`: those that are taken, by default all of the scheduler.
    """
    recording = sampling.recording
    if recording is None:
        return None

    # With guidance by one network, the second half of its batch carries the prompts.
    count = len(noise)
    alone = sampling.negative is None or sampling.guide is not None
    rows = slice(0, count) if alone else slice(count, 2 * count)

    # Record only the steps inside the recipe's window.
    taken = [float(step) for step in (scheduler.timesteps if timesteps is None else timesteps)]
    steps = choose_steps(taken, scheduler.config.num_train_timesteps, recording.window)
    return watch_words(sampling.model.denoiser, words, rows, steps, grid_of(noise), recording.affinity)


def sample_latents(
    model: ImageGenerator,
    scheduler: Scheduler,
    noise: Tensor,
    text: Conditioning,
    negative: Conditioning | None,
    guidance: float,
    generators: Sequence[torch.Generator],
    guide: ImageGenerator | None = None,
) -> Tensor:
    """Denoise standard normal `noise` [B, C, H, W] to clean latents [B, C, H, W]. The scheduler's timesteps are set.

    `negative` is one row, or None for no unconditional pass. A network distilled to `guidance` then reads the scale.
    `guide` reads `negative` in the model's place. Schedulers that add noise on the way use `generators`.
    """
    # Walk all steps and keep the last latents.
    predict = choose_prediction(model, scheduler, text, negative, guidance, guide)
    latents = noise
    for latents in walk_steps(scheduler, noise, predict, generators):  # noqa: B007  only the last is wanted
        pass
    return latents


def choose_prediction(
    model: ImageGenerator,
    scheduler: Scheduler,
    text: Conditioning,
    negative: Conditioning | None,
    guidance: float,
    guide: ImageGenerator | None,
) -> Predict:
    """Return the function that predicts the output for a batch's latents; see `sample_latents`."""
    # Without an unconditional pass, a distilled network reads the guidance scale as an input.
    if negative is None:
        told = replace(text, guidance=guidance)
        return lambda latents, step: model.denoise(scheduler.scale_model_input(latents, step), step, told)

    # Classifier-free guidance: one network, one call, twice the rows.
    unconditional = replace(negative.expand(len(text.embeds)), control=text.control, fill=text.fill)
    if guide is None:
        both = join_conditionings([unconditional, text])

        # One call of the network on the unconditional and the conditional half together.
        def predict(latents: Tensor, step: Any) -> Tensor:
            doubled = scheduler.scale_model_input(torch.cat([latents, latents]), step)
            return apply_guidance(model.denoise(doubled, step, both), guidance)

        return predict

    # Domain Guidance: the guide makes the unconditional half, the generator the conditional one.
    def predict_with_guide(latents: Tensor, step: Any) -> Tensor:
        scaled = scheduler.scale_model_input(latents, step)
        halves = guide.denoise(scaled, step, unconditional), model.denoise(scaled, step, text)
        return apply_guidance(torch.cat(halves), guidance)

    return predict_with_guide


def walk_steps(
    scheduler: Scheduler, noise: Tensor, predict: Predict, generators: Sequence[torch.Generator] = ()
) -> Iterator[Tensor]:
    """Yield the latents [B, C, H, W] after each denoising step, differentiable in `noise` if `predict` is."""
    begin_run(scheduler)
    latents: Tensor = noise * scheduler.init_noise_sigma
    options = step_options(scheduler, generators)

    # One step per timestep: predict, then let the scheduler move the latents.
    for step in count(scheduler.timesteps, "step", scheduler.timesteps):
        latents = scheduler.step(predict(latents, step), step, latents, return_dict=False, **options)[0]
        yield latents


def begin_run(scheduler: Scheduler, place: int = 0) -> None:
    """Tell a scheduler the place of the run's first timestep, as the pipelines of Stable Diffusion XL and Flux do."""
    # Otherwise it looks the timestep up. With many steps rounded timesteps repeat, and it finds the second place.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(place)


def step_options(scheduler: Scheduler, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """Return the options of a scheduler's step, the same as those of the diffusers pipelines."""
    # A scheduler's default of eta may differ (TCD: 0.3).
    taken = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {"eta": 0.0} if "eta" in taken else {}
    return options | ({"generator": list(generators)} if generators and "generator" in taken else {})


def apply_guidance(output: Tensor, guidance: float) -> Tensor:
    """Guide [2 B, C, H, W] without a classifier (Ho and Salimans 2022): [B, C, H, W], unconditional half first."""
    unconditional, conditional = output.chunk(2)
    return unconditional + guidance * (conditional - unconditional)
