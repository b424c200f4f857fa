"""Plain text-to-image sampling: what a diffusers pipeline does for the same seeds, batch by batch.

With a guide it is Domain Guidance (arXiv 2504.01521): the unconditional half of guidance comes from another model, such
as the one that the generator was adapted from. With the scale w, the prompt c and the empty one 0

    prediction = generator(x, c) + (w - 1) (generator(x, c) - guide(x, 0))

which is classifier-free guidance where the guide is the generator itself. Masks are read in the generator's own pass.

A batch is a fixed slice of the plan, so making a batch again makes the same bytes. The noise of a sample comes from a
CPU generator seeded by the sample alone, whatever batch it is in. Out of memory halves the batch at hand; a sample
whose image is not finite or blank fails alone, because no layer mixes the rows of a batch.

Letters of shapes: B images, C channels, H and W latent rows and columns.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.engines import SamplingSettings
from tailforge.schemas.settings.quality import Recording
from tailforge.schemas.under_way import count, tell
from tailforge.tasks.methods.attention.capture import grid_of, watch_words
from tailforge.tasks.methods.attention.cross_attention import choose_steps
from tailforge.tasks.methods.attention.word_capture import WordCapture
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import Conditioning, ImageGenerator, Scheduler, join_conditionings

S = TypeVar("S")
T = TypeVar("T")

OUT_OF_MEMORY = "out of memory with a batch of one"
UNREAD = "the prompt is longer than the text encoder reads, and its concept is cut off"
NOT_FINITE = "image is not finite"
BLANK = "image is blank"

# Latents [B, C, H, W] at a timestep of the scheduler to the network's output for them, guided.
Predict = Callable[[Tensor, Any], Tensor]

_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")


@dataclass(frozen=True)
class Rendered:
    """What an engine made of one sample. With an error there are neither pixels nor attention."""

    sample_id: str
    error: str | None
    pixels: NDArray[np.uint8] | None  # [height, width, 3]
    attention: NDArray[np.float16] | None  # [slot, h, w]
    provenance: dict[str, Any]
    noise: NDArray[np.float16] | None = None  # [C, H, W], where an engine chose it: what the image is made of again
    agreement: list[float] | None = None  # of early and late attention on each slot, 0..1; None of a single reading
    latents: NDArray[np.float32] | None = None  # [C, H, W], clean: what the decoder drew the pixels from


@dataclass(frozen=True)
class Text:
    """A prompt made ready: its conditioning (one row) and the token positions of each of its slots."""

    conditioning: Conditioning
    words: list[list[int]]
    reads_concept: bool = True


@dataclass(frozen=True)
class Sampling:
    """What all batches of one call share."""

    model: ImageGenerator
    settings: SamplingSettings
    recording: Recording | None  # what is kept of the attention; None: nothing is
    negative: Conditioning | None  # one row; None without guidance by a second pass
    clock: Clock
    guide: ImageGenerator | None = None  # what reads `negative`; None: the model itself

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        height, width = self.model.default_size
        return self.settings.height or height, self.settings.width or width


def cut_batches(samples: Sequence[S], size: int) -> list[Sequence[S]]:
    """The plan's batches, in order."""
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def render_plain(
    model: ImageGenerator,
    samples: Sequence[SampleSpec],
    settings: SamplingSettings,
    recording: Recording | None,
    clock: Clock,
    guide: ImageGenerator | None = None,
) -> Iterator[Rendered]:
    """Every sample, in order; with a `recording` also the cross-attention of its slots.

    Each distinct prompt is encoded once and alone, so that its embedding does not depend on its batch.
    Errors: RecipeError for an image size that the model or the guide cannot make.
    """
    sampling = prepare_sampling(model, settings, recording, clock, guide)

    def render(batch: Sequence[SampleSpec]) -> list[Rendered]:
        generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in batch]
        return render_noise(sampling, batch, texts, draw_noise(model, generators, *sampling.size), generators)

    texts: dict[str, Text] = {}
    for number, batch in enumerate(cut_batches(samples, settings.batch_size)):
        tell("image", number * settings.batch_size, len(samples))
        with hold_all(sampling):
            prepare_texts(sampling, batch, texts)
            rendered = within_memory(render, batch, out_of_memory)
        yield from rendered


def prepare_sampling(
    model: ImageGenerator,
    settings: SamplingSettings,
    recording: Recording | None,
    clock: Clock,
    guide: ImageGenerator | None = None,
) -> Sampling:
    """What all batches of one call share, the negative prompt encoded.

    Errors: RecipeError for a guide whose latents are of another shape.
    """
    reader = guide or model
    with hold(reader, clock), torch.no_grad(), clock.phase("text"):
        negative = reader.encode_negative(settings.negative_prompt) if settings.guidance > 1 else None
    sampling = Sampling(model, settings, recording, negative, clock, guide)
    if guide is not None:
        require_equal_shapes(model.latent_shape(*sampling.size), guide.latent_shape(*sampling.size))
    return sampling


def require_equal_shapes(model: tuple[int, int, int], guide: tuple[int, int, int]) -> None:
    """Errors: RecipeError for latents of different shapes (C, H, W)."""
    if model != guide:
        raise RecipeError(
            f"engine.guide: its latents have the shape {guide} (channels, rows, columns), those of the generator "
            f"{model}; name the generator that this one was adapted from"
        )


@contextmanager
def hold(model: ImageGenerator, clock: Clock) -> Iterator[None]:
    """The generator for one batch; others wait."""
    with clock.phase("wait"):
        model.lock.acquire()
    try:
        yield
    finally:
        model.lock.release()


@contextmanager
def hold_all(sampling: Sampling) -> Iterator[None]:
    """The generator and its guide, always in the same order, so that two threads cannot wait for each other."""
    models = [sampling.model, *([sampling.guide] if sampling.guide else [])]
    with ExitStack() as held:
        for model in sorted(models, key=id):
            held.enter_context(hold(model, sampling.clock))
        yield


def prepare_texts(sampling: Sampling, batch: Sequence[SampleSpec], texts: dict[str, Text]) -> None:
    """Add the batch's prompts to `texts`; none is encoded twice."""
    # Not inference mode: engines that search differentiate through what reads these tensors.
    with torch.no_grad(), sampling.clock.phase("text"):
        for sample in batch:
            texts[sample.prompt] = texts.get(sample.prompt) or prepare_text(sampling.model, sample)


def prepare_text(model: ImageGenerator, sample: SampleSpec) -> Text:
    """Encode a sample's prompt and find the tokens of its slots."""
    words = model.locate_tokens(sample.prompt, [(slot.start, slot.end) for slot in sample.slots])
    ends = [(slot.end - 1, slot.end) for slot in sample.slots if slot.name == "concept"]  # what is cut off is the end
    reads = not ends or any(model.locate_tokens(sample.prompt, ends))
    return Text(model.encode_prompt(sample.prompt), words, reads)


def within_memory(run: Callable[[Sequence[S]], list[T]], batch: Sequence[S], give_up: Callable[[S], T]) -> list[T]:
    """Run a batch; out of memory, its halves; `give_up` says what comes of a single one that does not fit."""
    try:
        return run(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler, where the traceback no longer holds the tensors that filled the memory.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(batch) == 1:
        return [give_up(batch[0])]
    half = (len(batch) + 1) // 2
    return [row for part in (batch[:half], batch[half:]) for row in within_memory(run, part, give_up)]


def out_of_memory(sample: SampleSpec) -> Rendered:
    """The outcome of a sample that does not fit into memory alone."""
    return Rendered(sample.sample_id, OUT_OF_MEMORY, None, None, {})


def is_out_of_memory(error: BaseException) -> bool:
    """True for what CUDA, cuDNN and the CPU allocator raise when memory runs out."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in _MEMORY_WORDS)


@torch.inference_mode()
def render_noise(
    sampling: Sampling,
    batch: Sequence[SampleSpec],
    texts: dict[str, Text],
    noise: Tensor,
    generators: Sequence[torch.Generator],
) -> list[Rendered]:
    """Images and attention of one forward batch that starts from `noise` [B, C, H, W]."""
    model, settings = sampling.model, sampling.settings
    with sampling.clock.phase("sample"):
        scheduler = prepare_scheduler(sampling, settings.steps)
        text = join_conditionings([texts[sample.prompt].conditioning for sample in batch])
        capture = record_words(sampling, scheduler, noise, [texts[sample.prompt].words for sample in batch])
        with capture or nullcontext():
            latents = sample_latents(
                model, scheduler, noise, text, sampling.negative, settings.guidance, generators, sampling.guide
            )
        finite = latents.isfinite().flatten(1).all(1).tolist()
    with sampling.clock.phase("decode"):
        images = model.decode(latents).float()
        pixels = to_pixels(images)
        finite = [a and b for a, b in zip(finite, images.isfinite().flatten(1).all(1).tolist(), strict=True)]
    origin = {
        "scheduler": name_scheduler(scheduler),
        "batch_size": len(batch),
        "device": name_device(model.device),
    }
    return [
        Rendered(
            sample.sample_id,
            error := _find_error(texts[sample.prompt], finite[row], pixels[row]),
            None if error else pixels[row],
            None if error or capture is None else capture.maps(row),
            {**origin, "batch_row": row},
            agreement=None if error or capture is None else capture.agreement(row),
            latents=None if error else latents[row].float().cpu().numpy(),
        )
        for row, sample in enumerate(batch)
    ]


def _find_error(text: Text, is_finite: bool, pixels: NDArray[np.uint8]) -> str | None:
    if not text.reads_concept:
        return UNREAD
    return NOT_FINITE if not is_finite else BLANK if np.ptp(pixels) == 0 else None


def prepare_scheduler(sampling: Sampling, steps: int) -> Scheduler:
    """A fresh scheduler of the recipe's kind."""
    scheduler = sampling.model.make_scheduler(sampling.settings.scheduler, sampling.size)
    scheduler.set_timesteps(steps, device=sampling.model.device)
    return scheduler


def name_scheduler(scheduler: Scheduler) -> str:
    """The class of diffusers whose steps are taken, also where an adapter of ours is derived from it."""
    names = [kind.__name__ for kind in type(scheduler).__mro__ if kind.__module__.startswith("diffusers.")]
    return names[0]


def name_device(device: torch.device) -> str:
    """What the pixels depend on: "cpu" or the accelerator's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def draw_noise(model: ImageGenerator, generators: Sequence[torch.Generator], height: int, width: int) -> Tensor:
    """Standard normal latents [B, C, H, W] for images of height x width pixels, one generator an image."""
    shape = (1, *model.latent_shape(height, width))
    return torch.cat([torch.randn(shape, generator=generator, dtype=model.dtype) for generator in generators]).to(
        model.device
    )


def record_words(
    sampling: Sampling, scheduler: Scheduler, noise: Tensor, words: list[list[list[int]]]
) -> WordCapture[Any] | None:
    """The capture of a batch's words, or None where nothing is to be recorded."""
    recording = sampling.recording
    if recording is None:
        return None
    count = len(noise)
    alone = sampling.negative is None or sampling.guide is not None
    rows = slice(0, count) if alone else slice(count, 2 * count)
    timesteps = [float(step) for step in scheduler.timesteps]
    steps = choose_steps(timesteps, scheduler.config.num_train_timesteps, recording.window)
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
    """Clean latents [B, C, H, W] from standard normal `noise` by a scheduler whose timesteps are set.

    `negative` is one row, or None for no unconditional pass: then a network that was distilled to `guidance` reads it.
    `guide` reads `negative` in the model's place. `generators` serve schedulers that add noise on the way.
    """
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
    """How the latents of a batch are denoised; see `sample_latents`."""
    if negative is None:
        told = replace(text, guidance=guidance)
        return lambda latents, step: model.denoise(scheduler.scale_model_input(latents, step), step, told)
    unconditional = negative.expand(len(text.embeds))
    if guide is None:
        both = join_conditionings([unconditional, text])

        def predict(latents: Tensor, step: Any) -> Tensor:
            doubled = scheduler.scale_model_input(torch.cat([latents, latents]), step)
            return apply_guidance(model.denoise(doubled, step, both), guidance)

        return predict

    def predict_with_guide(latents: Tensor, step: Any) -> Tensor:
        scaled = scheduler.scale_model_input(latents, step)
        halves = guide.denoise(scaled, step, unconditional), model.denoise(scaled, step, text)
        return apply_guidance(torch.cat(halves), guidance)

    return predict_with_guide


def walk_steps(
    scheduler: Scheduler, noise: Tensor, predict: Predict, generators: Sequence[torch.Generator] = ()
) -> Iterator[Tensor]:
    """Latents after each denoising step. Differentiable in `noise` as far as `predict` is."""
    latents: Tensor = noise * scheduler.init_noise_sigma
    taken = inspect.signature(scheduler.step).parameters
    # What the pipelines of diffusers pass; a scheduler's own default of eta may be another (TCD's is 0.3).
    options: dict[str, Any] = {"eta": 0.0} if "eta" in taken else {}
    if generators and "generator" in taken:
        options["generator"] = list(generators)
    for step in count(scheduler.timesteps, "step", scheduler.timesteps):
        latents = scheduler.step(predict(latents, step), step, latents, return_dict=False, **options)[0]
        yield latents


def apply_guidance(output: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022) of a batch whose first half is unconditional."""
    unconditional, conditional = output.chunk(2)
    return unconditional + guidance * (conditional - unconditional)


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """[B, height, width, 3] of images [B, 3, height, width] in -1..1; values that are not finite become 0."""
    scaled = (images * 0.5 + 0.5).clamp(0, 1).nan_to_num(0.0).permute(0, 2, 3, 1)
    return (scaled.cpu().numpy() * 255).round().astype(np.uint8)
