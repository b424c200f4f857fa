"""Settings of pipelines before and after the steps: images equal those of diffusers, kind by kind."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler

from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.models.flow_generators import FluxGenerator, StableDiffusion3Generator
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.tiny_flows import build_flux, build_sd3
from tests.support.tiny_generators import build_sd, build_sd2, build_sdxl, make_samples

LONG = "a photo of a gear " + "on a wooden bench " * 6  # longer than the text encoder reads
SAMPLES = make_samples(3, ("a photo of a gear on a wooden bench", "a gear", LONG))
EVEN: dict[str, Any] = {"height": 32, "width": 32}
WIDE: dict[str, Any] = {"height": 24, "width": 40}


def as_saved() -> Any:
    """Stable Diffusion 1 is saved with this scheduler."""
    pipeline = build_sd("epsilon")
    pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config, skip_prk_steps=True)
    return pipeline


def without_zeros() -> Any:
    """The empty prompt of XL is encoded, as the refiner and most adapted models have it."""
    pipeline = build_sdxl()
    pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    return pipeline


def with_statistics() -> Any:
    """Latents of XL are normalised by channel."""
    pipeline = build_sdxl()
    pipeline.vae.register_to_config(latents_mean=[0.5, -1.0, 0.1, 0.0], latents_std=[2.0, 0.5, 1.0, 1.5])
    return pipeline


def in_half(upcast: bool) -> Any:
    pipeline = build_sdxl().to(dtype=torch.float16)
    pipeline.vae.register_to_config(force_upcast=upcast)
    return pipeline


KINDS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "sd 1": (as_saved, UNetGenerator),
    "sd 2": (build_sd2, UNetGenerator),
    "xl": (build_sdxl, UNetGenerator),
    "xl without zeros": (without_zeros, UNetGenerator),
    "xl with statistics": (with_statistics, UNetGenerator),
    "sd 3": (build_sd3, StableDiffusion3Generator),
    "sd 3 shifted by size": (lambda: build_sd3(use_dynamic_shifting=True), StableDiffusion3Generator),
    "flux-dev": (build_flux, FluxGenerator),
    "flux-schnell": (lambda: build_flux(guidance_embeds=False), FluxGenerator),
}


def images_of(model: Any, recording: Recording | None = None, **settings: Any) -> np.ndarray[Any, Any]:
    rendered = list(render_plain(model, SAMPLES, PlainEngine(steps=5, batch_size=3, **settings), recording, Clock()))
    return np.stack([row.pixels for row in rendered if row.pixels is not None]).astype(int)


def pipeline_images(pipeline: Any, **options: Any) -> np.ndarray[Any, Any]:
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in SAMPLES]
    prompts = [sample.prompt for sample in SAMPLES]
    made = pipeline(prompts, num_inference_steps=5, generator=generators, output_type="np", **options)
    return np.asarray((made.images * 255).round().astype(int))


@pytest.mark.parametrize("size", [EVEN, WIDE], ids=["square", "wide"])
@pytest.mark.parametrize("negative", ["", "wooden"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_those_of_the_pipeline(kind: str, negative: str, size: dict[str, Any]) -> None:
    build, adapt = KINDS[kind]
    pipeline = build()
    if negative and adapt is FluxGenerator:
        pytest.skip("Flux has no negative prompt")
    ours = images_of(adapt(pipeline), guidance=4.0, negative_prompt=negative, **size)
    options = {"negative_prompt": [negative] * len(SAMPLES)} if negative else {}
    assert np.abs(ours - pipeline_images(pipeline, guidance_scale=4.0, **options, **size)).max() <= 1


@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning")  # of diffusers' own call
@pytest.mark.parametrize("upcast", [True, False])
def test_half_precision_of_xl_is_decoded_as_the_pipeline_does(upcast: bool) -> None:
    theirs = pipeline_images(in_half(upcast), guidance_scale=4.0)
    model = UNetGenerator(in_half(upcast))
    assert model.pipeline.vae.dtype == (torch.float32 if upcast else torch.float16)
    assert np.abs(images_of(model, guidance=4.0) - theirs).max() <= 1


def test_noise_of_a_stochastic_flow_comes_from_the_samples_own_generators() -> None:
    """The pipeline draws it from torch's global generator, so its images do not repeat."""
    pipeline = build_sd3(stochastic_sampling=True)
    theirs = [pipeline_images(pipeline, guidance_scale=4.0, **EVEN) for _ in range(2)]
    assert np.abs(theirs[0] - theirs[1]).max() > 1
    one, other = (images_of(StableDiffusion3Generator(pipeline), guidance=4.0, **EVEN) for _ in range(2))
    assert np.array_equal(one, other)


def test_masks_of_stable_diffusion_2_leave_its_images() -> None:
    model = UNetGenerator(build_sd2())
    assert np.array_equal(images_of(model, Recording(window=(0.0, 1.0)), guidance=4.0), images_of(model, guidance=4.0))
