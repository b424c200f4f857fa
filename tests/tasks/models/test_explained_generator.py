"""Tails of real pipelines: they draw what the pipeline draws, from the named layer, and hold what they should."""

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.decompose import DecomposeSettings, decompose
from tailforge.tasks.methods.regional_primitives.demands import SolveSettings, Subject
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.sampling.plain import sample_latents
from tailforge.tasks.models.explained_generator import Step, explain_decoder, explain_step, reach_step
from tailforge.tasks.models.flow_generators import StableDiffusion3Generator
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.tiny_flows import build_sd3
from tests.support.tiny_generators import build_sd, build_sdxl

HASTY = SolveSettings(start_iterations=5, corrections=1, correction_iterations=2)
PROMPT = "a photo of a gear on a wooden bench"
DECODER_LAYERS = ["decoder.mid_block", "decoder.up_blocks.0", "decoder.up_blocks.1"]
UNET_LAYERS = ["mid_block", "up_blocks.0", "up_blocks.1"]


def draw(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> UNetGenerator:
    return UNetGenerator(build_sd())


def make_step(model: UNetGenerator, guidance: float = 1.0, steps: int = 4, number: int = 3) -> Step:
    text = model.encode_prompt(PROMPT)
    negative = model.encode_negative("") if guidance > 1 else None
    return reach_step(model, draw(1), text, negative, guidance, steps, number)


@pytest.mark.parametrize("layer", DECODER_LAYERS)
def test_the_decoders_tail_draws_the_decoders_bits(model: UNetGenerator, layer: str) -> None:
    latents = draw(1)
    image = model.decode(latents)
    free = explain_decoder(model, latents, draw(4), layer, hold_norms=False)
    held = explain_decoder(model, latents, draw(4), layer)
    with torch.no_grad():
        assert torch.equal(free.tail(free.feature), image)
        torch.testing.assert_close(held.tail(held.feature), image, rtol=0, atol=1e-5)


def test_the_tail_of_a_tiny_autoencoder_draws_its_bits() -> None:
    pipeline = build_sd()
    torch.manual_seed(0)
    pipeline.vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )  # fmt: skip
    model = UNetGenerator(pipeline)
    subject = explain_decoder(model, draw(1), draw(4), "decoder.layers.3")
    with torch.no_grad():
        assert torch.equal(subject.tail(subject.feature), model.decode(draw(1)))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("layer", UNET_LAYERS)
def test_a_steps_tail_draws_what_the_step_predicts(model: UNetGenerator, layer: str, guidance: float) -> None:
    step = make_step(model, guidance)
    scheduler = model.make_scheduler("ddim")
    scheduler.set_timesteps(4, device=model.device)
    subject = explain_step(model, step, draw(4), layer)
    with torch.no_grad():
        output = model.denoise(step.latents, step.timestep, step.text)
        if step.negative is not None:
            unguided = model.denoise(step.latents, step.timestep, step.negative)
            output = unguided + guidance * (output - unguided)
        clean = scheduler.step(output, step.timestep, step.latents).pred_original_sample
        torch.testing.assert_close(subject.tail(subject.feature), model.decode(clean), rtol=0, atol=1e-4)


@pytest.mark.parametrize("build", [lambda: build_sd("epsilon"), lambda: build_sd("sample"), build_sdxl])
def test_one_step_of_one_is_a_one_step_generator(build: Callable[[], object]) -> None:
    model = UNetGenerator(build())  # type: ignore[arg-type]
    text = model.encode_prompt(PROMPT)
    scheduler = model.make_scheduler("ddim")
    scheduler.set_timesteps(1, device=model.device)
    subject = explain_step(model, reach_step(model, draw(1), text, None, 1.0, 1, 1), draw(4), "up_blocks.1")
    with torch.no_grad():
        image = model.decode(sample_latents(model, scheduler, draw(1), text, None, 1.0, ()))
        torch.testing.assert_close(subject.tail(subject.feature), image, rtol=1e-3, atol=1e-3)


def far_change(subject: Subject) -> float:
    """How much the far corner of the image changes when one corner of the feature does."""
    moved = subject.feature.clone()
    moved[..., :2, :2] += 3 * subject.spread
    with torch.no_grad():
        return float((subject.tail(moved) - subject.tail(subject.feature))[..., -4:, -4:].abs().max())


def test_held_norms_carry_nothing_to_the_far_corner(model: UNetGenerator) -> None:
    held, free = (explain_decoder(model, draw(1), draw(4), DECODER_LAYERS[1], hold) for hold in (True, False))
    assert far_change(held) == 0
    assert far_change(free) > 1e-5


def test_rows_do_not_read_each_other_and_skips_are_held(model: UNetGenerator) -> None:
    subject = explain_step(model, make_step(model, 4.0), draw(4), "up_blocks.0")
    features = torch.cat([subject.feature, subject.baseline])
    with torch.no_grad():
        alone = torch.cat([subject.tail(subject.feature), subject.tail(subject.baseline)])
        torch.testing.assert_close(subject.tail(features), alone, rtol=0, atol=1e-4)


def test_the_pipeline_stays_as_it_was(model: UNetGenerator) -> None:
    before = model.decode(draw(1))
    explain_decoder(model, draw(1), draw(4), DECODER_LAYERS[0])
    explain_step(model, make_step(model), draw(4), "mid_block")
    assert torch.equal(model.decode(draw(1)), before)
    assert not any(part._forward_pre_hooks for part in [*model.pipeline.vae.modules(), *model.denoiser.modules()])


def test_a_decoders_feature_can_be_decomposed(model: UNetGenerator) -> None:
    subject = explain_decoder(model, draw(1), draw(8), DECODER_LAYERS[2])
    found = decompose(subject, PatchGrid(2, 2, 32, 32), DecomposeSettings(order=1))
    assert found.residual_all <= 1e-2
    assert found.reported.all()


def test_a_steps_feature_can_be_decomposed(model: UNetGenerator) -> None:
    subject = explain_step(model, make_step(model, 4.0), draw(8), UNET_LAYERS[2])
    found = decompose(subject, PatchGrid(2, 2, 32, 32), DecomposeSettings(order=1, gate=1.0, solve=HASTY))
    assert len(found.names) == 4


def test_what_cannot_be_explained_is_refused(model: UNetGenerator) -> None:
    with pytest.raises(
        ExplanationError, match=r"unknown layer 'up_blocks.1'; possible are decoder.mid_block, .*mean decod"
    ):
        explain_decoder(model, draw(1), draw(4), "up_blocks.1")
    with pytest.raises(ExplanationError, match="step 5 is not among the 4 steps"):
        make_step(model, number=5)
    with pytest.raises(ExplanationError, match="at least two"):
        explain_decoder(model, draw(1), draw(1), DECODER_LAYERS[0])
    flow = StableDiffusion3Generator(build_sd3())
    with pytest.raises(ExplanationError, match="only one of a UNet; its decoder can be"):
        explain_step(flow, make_step(model), draw(4), "mid_block")  # type: ignore[arg-type]
