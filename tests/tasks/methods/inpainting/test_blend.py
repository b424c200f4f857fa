"""Blended latents: the steps of diffusers' inpainting with a text-to-image network, and RePaint's resampling."""

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import HeunDiscreteScheduler, StableDiffusionInpaintPipeline
from PIL import Image

from tailforge.tasks.methods.inpainting.blend import (
    CLEAN,
    Canvas,
    Level,
    blend_latents,
    find_cells,
    find_level,
    renoise,
    steps_within,
)
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.sampling.plain import choose_prediction
from tailforge.tasks.models.flow_generators import StableDiffusion3Generator
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.tiny_flows import build_sd3
from tests.support.tiny_generators import build_sd

PROMPT = "a photo of a gear"
SCHEDULERS = ("model", "euler", "dpmsolver++", "unipc", "flow")


def prepare(name: str, steps: int = 5) -> tuple[Any, Any]:
    """A tiny generator and its scheduler with the timesteps set."""
    model: Any = StableDiffusion3Generator(build_sd3()) if name == "flow" else UNetGenerator(build_sd())
    scheduler: Any = model.make_scheduler("model" if name == "flow" else name, (32, 32))
    scheduler.set_timesteps(steps, device=model.device)
    return model, scheduler


def canvas_of(model: Any) -> Canvas:
    torch.manual_seed(1)
    latents = torch.randn(2, *model.latent_shape(32, 32))
    regions = torch.zeros(2, 32, 32, dtype=torch.bool)
    regions[0, 4:12, 4:12], regions[1, 20, 3] = True, True
    return Canvas(latents, torch.randn(latents.shape), find_cells(regions, latents))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("strength", "resample"), [(1.0, 1), (0.5, 2)])
def test_only_the_cells_of_the_regions_are_drawn(name: str, strength: float, resample: int) -> None:
    model, scheduler = prepare(name)
    canvas = canvas_of(model)
    assert canvas.cells.flatten(1).sum(1).tolist() == [16, 1]  # 8 x 8 pixels are 4 x 4 cells
    with torch.no_grad():
        text = model.encode_prompt(PROMPT).expand(2)
        predict = choose_prediction(model, scheduler, text, model.encode_negative(""), 2.0, None)
        generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
        drawn = blend_latents(scheduler, predict, canvas, strength, generators, resample)
    cells = canvas.cells.expand_as(drawn)
    assert torch.equal(drawn[~cells], canvas.latents[~cells])
    assert drawn.isfinite().all()
    assert (drawn[cells] != canvas.latents[cells]).all()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_levels_are_those_of_the_scheduler(name: str) -> None:
    _, scheduler = prepare(name)
    image, noise = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    for step in scheduler.timesteps:
        if name == "flow":
            expected = torch.lerp(image, noise, float(step) / 1000)
        else:
            expected = scheduler.add_noise(image, noise, step[None])
        torch.testing.assert_close(find_level(scheduler, step).mix(image, noise), expected)


SOLVERS = [
    *("DDIMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"),
    *("EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "UniPCMultistepScheduler"),
    "FlowMatchEulerDiscreteScheduler",
]


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # of diffusers with numpy 2
@pytest.mark.parametrize("strength", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_network_that_knows_the_noise_draws_the_image(name: str, strength: float) -> None:
    """Every step is then exact, so a run that begins at another level than its image would miss the image."""
    flows = name.startswith("Flow")
    pipeline: Any = build_sd3() if flows else build_sd("epsilon")
    model: Any = StableDiffusion3Generator(pipeline) if flows else UNetGenerator(pipeline)
    if not flows:
        pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
    scheduler = model.make_scheduler("model", (32, 32))
    scheduler.set_timesteps(12, device=model.device)
    canvas = canvas_of(model)
    answer = canvas.noise - canvas.latents if flows else canvas.noise

    def predict(latents: torch.Tensor, step: Any) -> torch.Tensor:
        scheduler.scale_model_input(latents, step)  # which some schedulers need
        return answer

    drawn = blend_latents(scheduler, predict, replace(canvas, cells=torch.ones_like(canvas.cells)), strength)
    torch.testing.assert_close(drawn, canvas.latents, atol=0.05, rtol=0)


def test_strength_is_a_share_of_the_schedule() -> None:
    _, scheduler = prepare("model", 10)
    assert steps_within(scheduler, 1) == list(scheduler.timesteps)
    assert all(float(step) <= 400 for step in steps_within(scheduler, 0.4))
    assert len(steps_within(scheduler, 0.4)) == 4


@pytest.mark.parametrize(("name", "strength"), [("flow", 1.0), ("flow", 0.5), ("model", 0.5)])
def test_a_network_that_knows_the_image_draws_it(name: str, strength: float) -> None:
    """With the true velocity of the image and its noise every step stays on their line, so the end is the image."""
    model, scheduler = prepare(name, 6)
    canvas = canvas_of(model)
    levels = {float(step): find_level(scheduler, step) for step in scheduler.timesteps}

    def predict(latents: torch.Tensor, step: Any) -> torch.Tensor:
        level = levels[float(step)]
        if name == "flow":
            return canvas.noise - canvas.latents
        return level.image * canvas.noise - level.noise * canvas.latents

    drawn = blend_latents(scheduler, predict, canvas, strength)
    torch.testing.assert_close(drawn, canvas.latents, atol=1e-4, rtol=1e-4)


def test_a_scheduler_of_second_order_starts_with_a_whole_step() -> None:
    """Heun takes every timestep but the first twice; a start between both would take half a step."""
    scheduler: Any = HeunDiscreteScheduler()
    scheduler.set_timesteps(10)
    for strength in (0.2, 0.5, 0.9):
        steps = [float(step) for step in steps_within(scheduler, strength)]
        assert len(steps) % 2 == 1
        assert steps.count(steps[0]) == 1


def test_networks_for_inpainting_count_steps_as_diffusers_does() -> None:
    _, scheduler = prepare("flow", 10)
    assert len(steps_within(scheduler, 0.35, blends=False)) == 3
    assert len(steps_within(scheduler, 0.35)) < 3  # the shifted flow spends most of its steps at high noise


def test_noise_that_is_added_again_reaches_the_level() -> None:
    """RePaint's step back: the mean and the variance are those of the forward process at the higher level."""
    low, high = Level(0.8, 0.6), Level(0.5, 0.75**0.5)
    noise = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    made = renoise(low.mix(torch.full_like(noise, 3.0), noise), low, high, [torch.Generator().manual_seed(1)])
    assert float(made.mean()) == pytest.approx(0.5 * 3, abs=0.02)
    assert float(made.std()) == pytest.approx(high.noise, rel=0.02)
    clean = renoise(torch.full_like(noise, 3.0), CLEAN, high, [torch.Generator().manual_seed(1)])
    assert float(clean.mean()) == pytest.approx(1.5, abs=0.02)


def test_resampling_changes_the_drawing_by_its_seed() -> None:
    model, _ = prepare("model")
    canvas = canvas_of(model)

    def draw(resample: int, seed: int) -> torch.Tensor:
        scheduler = model.make_scheduler("dpmsolver++")
        scheduler.set_timesteps(4, device=model.device)
        predict = choose_prediction(model, scheduler, model.encode_prompt(PROMPT).expand(2), None, 1.0, None)
        generators = [torch.Generator().manual_seed(seed + row) for row in range(2)]
        with torch.no_grad():
            return blend_latents(scheduler, predict, canvas, 0.8, generators, resample)

    assert torch.equal(draw(1, 0), draw(1, 9))
    assert torch.equal(draw(3, 0), draw(3, 0))
    assert not torch.equal(draw(3, 0), draw(3, 9))


def test_the_steps_are_those_of_diffusers() -> None:
    """The pipeline samples its latents from the autoencoder's posterior, so here that has no variance."""
    pipeline = build_sd()
    with torch.no_grad():
        pipeline.vae.quant_conv.weight[4:] = 0
        pipeline.vae.quant_conv.bias[4:] = -30
    model = UNetGenerator(pipeline)
    picture = Image.effect_noise((32, 32), 80).convert("RGB")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 4, 20, 16))
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    inpaint = StableDiffusionInpaintPipeline(
        **pipeline.components | {"image_encoder": None}, requires_safety_checker=False
    )
    inpaint.set_progress_bar_config(disable=True)
    expected = inpaint(
        PROMPT, picture, mask, height=32, width=32, strength=1.0, num_inference_steps=6, guidance_scale=2.0,
        latents=noise, output_type="latent",
    ).images  # fmt: skip

    scheduler = model.make_scheduler("model")
    scheduler.set_timesteps(6, device=model.device)
    with torch.no_grad():
        latents = model.encode(to_tensor(torch.tensor(list(picture.tobytes())).reshape(1, 32, 32, 3).byte().numpy()))
        region = torch.tensor(list(mask.tobytes())).reshape(1, 32, 32) > 0
        text, negative = model.encode_prompt(PROMPT), model.encode_negative("")
        predict = choose_prediction(model, scheduler, text, negative, 2.0, None)
        drawn = blend_latents(scheduler, predict, Canvas(latents, noise, find_cells(region, latents)), 1.0)
    torch.testing.assert_close(drawn, expected, atol=1e-3, rtol=1e-3)
