"""The plain engine: equal to diffusers' own pipeline, indifferent to batches, and bad samples fail alone."""

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.sampling.memory import is_out_of_memory
from tailforge.tasks.methods.sampling.pixels import to_pixels
from tailforge.tasks.methods.sampling.plain import (
    BLANK,
    NOT_FINITE,
    apply_guidance,
    draw_noise,
    render_plain,
    sample_latents,
)
from tailforge.tasks.methods.sampling.rendered import OUT_OF_MEMORY, Rendered
from tailforge.tasks.models.generator_files import SCHEDULERS
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.tiny_generators import build_sd, build_sdxl, make_samples

PROMPTS = ("a photo of a gear on a wooden bench", "a gear", "gear of a photo")
SD, SDXL = build_sd(), build_sdxl()


def render(
    model: Any,
    samples: list[SampleSpec],
    window: tuple[float, float] | None = None,
    affinity: int = 0,
    **settings: Any,
) -> list[Rendered]:
    engine = PlainEngine(**{"steps": 4, "batch_size": 4, **settings})
    recording = None if window is None else Recording(window=window, affinity=affinity)
    return list(render_plain(model, samples, engine, recording, Clock()))


def pixels(rendered: list[Rendered]) -> np.ndarray:
    assert all(row.error is None for row in rendered), [row.error for row in rendered]
    return np.stack([row.pixels for row in rendered])


def pipeline_images(pipeline: Any, samples: list[SampleSpec], **options: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in samples]
    made = pipeline(
        [s.prompt for s in samples], num_inference_steps=4, generator=generators, output_type="np", **options
    )
    return (made.images * 255).round().astype(np.uint8)


@pytest.mark.parametrize("pipeline", [SD, SDXL], ids=["sd", "sdxl"])
@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("negative", ["", "wooden"])
def test_equals_the_pipeline_of_diffusers(pipeline: Any, guidance: float, negative: str) -> None:
    samples = make_samples(4, PROMPTS)
    ours = pixels(render(UNetGenerator(pipeline), samples, guidance=guidance, negative_prompt=negative))
    theirs = pipeline_images(
        pipeline, samples, guidance_scale=guidance, negative_prompt=[negative] * 4 if negative else None
    )
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert (ours != theirs).mean() < 0.01


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers with numpy 2
@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_equals_the_pipeline_with_another_scheduler(name: str) -> None:
    pipeline, samples = build_sd(), make_samples(3, PROMPTS)
    ours = pixels(render(UNetGenerator(pipeline), samples, scheduler=name))
    pipeline.scheduler = getattr(diffusers, SCHEDULERS[name]).from_config(pipeline.scheduler.config)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert np.abs(ours.astype(int) - pipeline_images(pipeline, samples, guidance_scale=3.0)).max() <= 1


def test_equals_the_pipeline_at_another_size() -> None:
    samples = make_samples(2)
    ours = pixels(render(UNetGenerator(SDXL), samples, height=24, width=40))
    theirs = pipeline_images(SDXL, samples, guidance_scale=3.0, height=24, width=40)
    assert ours.shape == (2, 24, 40, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_a_sample_alone_is_the_sample_in_its_batch() -> None:
    model, samples = UNetGenerator(SD), make_samples(5, PROMPTS)
    together = pixels(render(model, samples, batch_size=5)).astype(int)
    alone = pixels(render(model, samples, batch_size=1))
    assert np.abs(together - alone).max() <= 1
    assert np.array_equal(together, pixels(render(model, samples, batch_size=5)))


def test_every_sample_has_its_own_image() -> None:
    made = pixels(render(UNetGenerator(SD), make_samples(6)))
    assert len({image.tobytes() for image in made}) == 6


def test_capture_leaves_the_image_bit_equal() -> None:
    model, samples = UNetGenerator(SD), make_samples(4, PROMPTS)
    for guidance in (1.0, 3.0):
        with_capture = render(model, samples, (0.2, 0.8), guidance=guidance)
        assert np.array_equal(pixels(with_capture), pixels(render(model, samples, guidance=guidance)))
        assert all(row.attention is not None and row.attention.shape == (1, 16, 16) for row in with_capture)


def test_agreement_is_kept_where_there_are_two_readings() -> None:
    model, samples = UNetGenerator(SD), make_samples(2)
    for row in render(model, samples, (0.0, 1.0)):
        assert row.agreement is not None
        assert len(row.agreement) == 1
        assert 0 < row.agreement[0] < 1
    assert [row.agreement for row in render(model, samples, (0.0, 1.0), steps=1)] == [None, None]
    assert [row.agreement for row in render(model, samples)] == [None, None]


def test_affinity_spreads_the_maps_and_leaves_the_images() -> None:
    model, samples = UNetGenerator(SD), make_samples(2)
    plain, spread = (render(model, samples, (0.0, 0.5), affinity) for affinity in (0, 4))
    assert np.array_equal(pixels(plain), pixels(spread))
    for before, after in zip(plain, spread, strict=True):
        assert before.attention is not None
        assert after.attention is not None
        assert np.ptp(after.attention) < np.ptp(before.attention)


class Wrapped(UNetGenerator):
    """The real adapter with one call changed by the test."""

    def __init__(self, change: Callable[[Tensor], Tensor], at: str = "denoise") -> None:
        super().__init__(SD)
        self.change, self.at, self.calls = change, at, []  # type: ignore[var-annotated]

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        self.calls.append(len(latents))
        output = super().denoise(latents, timestep, text)
        return self.change(output) if self.at == "denoise" else output

    def decode(self, latents: Tensor) -> Tensor:
        images = super().decode(latents)
        return self.change(images) if self.at == "decode" else images


def run_out_above(limit: int, error: Exception) -> Callable[[Tensor], Tensor]:
    def change(output: Tensor) -> Tensor:
        if len(output) > limit:
            raise error
        return output

    return change


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("not enough memory: you tried to allocate 123 bytes."),
    ],
)
def test_out_of_memory_halves_the_batch(error: Exception) -> None:
    model = Wrapped(run_out_above(4, error))  # rows of the denoiser: with guidance two an image
    made = render(model, make_samples(5), batch_size=5)
    assert [row.provenance["batch_size"] for row in made] == [2, 2, 2, 2, 1]
    assert max(model.calls) == 10
    plain = pixels(render(UNetGenerator(SD), make_samples(5), batch_size=5)).astype(int)
    assert np.abs(pixels(made) - plain).max() <= 1


def test_later_batches_begin_with_the_size_that_fitted() -> None:
    model = Wrapped(run_out_above(4, MemoryError()))
    render(model, make_samples(5), batch_size=5)
    model.calls.clear()
    assert [row.provenance["batch_size"] for row in render(model, make_samples(5), batch_size=5)] == [2, 2, 2, 2, 1]
    assert max(model.calls) == 4

    # Another model may have more memory.
    assert max(row.provenance["batch_size"] for row in render(UNetGenerator(SD), make_samples(5), batch_size=5)) == 5


def test_a_sample_that_never_fits_fails_and_others_go_on() -> None:
    made = render(Wrapped(run_out_above(0, MemoryError())), make_samples(3))
    assert [(row.error, row.pixels, row.attention) for row in made] == [(OUT_OF_MEMORY, None, None)] * 3


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        render(Wrapped(run_out_above(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))), make_samples(2))


@pytest.mark.parametrize(
    ("at", "value", "error"),
    [
        ("denoise", float("nan"), NOT_FINITE),
        ("decode", float("inf"), NOT_FINITE),
        ("decode", 0.25, BLANK),
    ],
)
def test_one_bad_sample_fails_alone(at: str, value: float, error: str) -> None:
    def spoil(output: Tensor) -> Tensor:
        output = output.clone()
        output[1] = value
        if at == "denoise":
            output[1 + len(output) // 2] = value
        return output

    samples = make_samples(4)
    made, good = render(Wrapped(spoil, at), samples, (0.2, 0.8)), render(UNetGenerator(SD), samples, (0.2, 0.8))
    assert [row.error for row in made] == [None, error, None, None]
    assert made[1].pixels is None
    assert made[1].attention is made[1].agreement is None
    for i in (0, 2, 3):
        assert np.array_equal(made[i].pixels, good[i].pixels)
        assert np.array_equal(made[i].attention, good[i].attention)


def test_gradients_reach_the_noise() -> None:
    model = UNetGenerator(SD)
    text = model.encode_prompt("a gear")
    generators = [torch.Generator().manual_seed(3)]
    noise = draw_noise(model, generators, 32, 32).requires_grad_()
    for negative in (None, model.encode_negative("")):
        scheduler = model.make_scheduler("ddim")
        scheduler.set_timesteps(2, device=model.device)
        latents = sample_latents(model, scheduler, noise, text, negative, 3.0, generators)
        (gradient,) = torch.autograd.grad(model.decode(latents).square().sum(), noise)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_noise_depends_on_the_sample_alone() -> None:
    model = UNetGenerator(SD)
    seeds = [3, 4, 5]
    together = draw_noise(model, [torch.Generator().manual_seed(seed) for seed in seeds], 32, 48)
    alone = [draw_noise(model, [torch.Generator().manual_seed(seed)], 32, 48) for seed in seeds]
    assert together.shape == (3, 4, 16, 24)
    assert torch.equal(together, torch.cat(alone))


def test_guidance_by_hand() -> None:
    output = torch.tensor([[1.0], [2.0], [5.0], [4.0]])
    assert apply_guidance(output, 3.0).tolist() == [[13.0], [8.0]]
    assert apply_guidance(output, 1.0).tolist() == [[5.0], [4.0]]


def test_pixels_by_hand() -> None:
    images = torch.tensor([-1.0, 0.0, 1.0, 7.0, float("nan")]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert to_pixels(images)[0, 0, :, 0].tolist() == [0, 128, 255, 255, 0]


def test_a_shape_error_is_not_taken_for_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("expected 4 channels"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))


def test_ddim_clips_no_latents_of_a_generator_saved_with_another_scheduler() -> None:
    """DDIM clips by default, and the configuration of a multistep solver does not tell it otherwise."""
    pipeline = build_sd()
    pipeline.scheduler = DPMSolverMultistepScheduler(prediction_type="v_prediction", timestep_spacing="trailing")
    assert DDIMScheduler.from_config(pipeline.scheduler.config).config.clip_sample
    assert not UNetGenerator(pipeline).make_scheduler("ddim").config.clip_sample
