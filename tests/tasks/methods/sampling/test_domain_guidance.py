"""Domain Guidance: the prediction by hand, what it equals, whose attention is read, and both generators held."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.sampling.plain import draw_noise, render_plain, sample_latents
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.models.flow_generators import StableDiffusion3Generator
from tailforge.tasks.models.generator_files import SCHEDULERS
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.tiny_flows import build_sd3
from tests.support.tiny_generators import build_sd, make_samples

PROMPTS = ("a photo of a gear on a wooden bench", "a gear")
OWN, TWIN = UNetGenerator(build_sd()), UNetGenerator(build_sd())
SOURCE = UNetGenerator(build_sd(seed=1, width=24))  # of another text encoder
EVERY_STEP = Recording(window=(0.0, 1.0))


def render(
    guide: Any, samples: Sequence[SampleSpec], recording: Recording | None = None, **settings: Any
) -> list[Rendered]:
    engine = PlainEngine(**{"steps": 3, "batch_size": 4, "guidance": 3.0, **settings})
    return list(render_plain(OWN, samples, engine, recording, Clock(), guide))


def pixels(rendered: list[Rendered]) -> np.ndarray:
    assert all(row.error is None for row in rendered)
    return np.stack([row.pixels for row in rendered]).astype(int)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers with numpy 2
@pytest.mark.parametrize("name", ["model", *sorted(SCHEDULERS)])
@torch.inference_mode()
def test_the_prediction_by_hand(name: str) -> None:
    noise = draw_noise(OWN, [torch.Generator().manual_seed(seed) for seed in (1, 2)], 32, 32)
    text, null, scale = OWN.encode_prompt("a gear").expand(2), SOURCE.encode_negative("wooden"), 2.5
    assert text.embeds.shape[-1] != null.embeds.shape[-1]
    by_hand, sampled = OWN.make_scheduler(name), OWN.make_scheduler(name)
    for scheduler in (by_hand, sampled):
        scheduler.set_timesteps(3, device=OWN.device)
    latents = noise * by_hand.init_noise_sigma
    for step in by_hand.timesteps:
        scaled = by_hand.scale_model_input(latents, step)
        own, other = OWN.denoise(scaled, step, text), SOURCE.denoise(scaled, step, null.expand(2))
        latents = by_hand.step(own + (scale - 1) * (own - other), step, latents, return_dict=False)[0]
    found = sample_latents(OWN, sampled, noise, text, null, scale, (), SOURCE)
    assert torch.allclose(found, latents, atol=1e-4)


def test_a_guide_of_equal_weights_is_plain_guidance() -> None:
    samples = make_samples(4, PROMPTS)
    assert np.abs(pixels(render(TWIN, samples)) - pixels(render(None, samples))).max() <= 1


def test_another_guide_makes_other_images_and_reads_the_negative_prompt() -> None:
    samples = make_samples(4, PROMPTS)
    plain, guided = (pixels(render(guide, samples)) for guide in (None, SOURCE))
    negative = pixels(render(SOURCE, samples, negative_prompt="gear"))
    assert not np.array_equal(plain, guided)
    assert not np.array_equal(guided, negative)


def test_a_sample_alone_is_the_sample_in_its_batch() -> None:
    samples = make_samples(3, PROMPTS)
    assert np.abs(pixels(render(SOURCE, samples)) - pixels(render(SOURCE, samples, batch_size=1))).max() <= 1


def test_a_guide_of_a_flow() -> None:
    own, source = (StableDiffusion3Generator(build_sd3(t5=t5)) for t5 in (False, True))
    engine = PlainEngine(steps=2, batch_size=2, guidance=2.0, height=32, width=32)
    plain, guided = (
        pixels(list(render_plain(own, make_samples(2), engine, EVERY_STEP, Clock(), guide))) for guide in (None, source)
    )
    assert not np.array_equal(plain, guided)


def test_the_attention_is_of_the_generators_own_pass_with_the_prompt() -> None:
    """At the first step the latents are the noise, whoever guides: so are the maps."""
    samples = make_samples(4, PROMPTS)
    plain = render(None, samples, EVERY_STEP, steps=1)
    for guide in (TWIN, SOURCE):
        for one, other in zip(plain, render(guide, samples, EVERY_STEP, steps=1), strict=True):
            assert np.allclose(one.attention, other.attention, atol=1e-3)


def test_recording_changes_no_pixel() -> None:
    samples = make_samples(4, PROMPTS)
    assert np.array_equal(pixels(render(SOURCE, samples, EVERY_STEP)), pixels(render(SOURCE, samples)))


class Watched(UNetGenerator):
    """Counts its calls, and those while nobody held it."""

    calls = free = 0

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        self.calls += 1
        self.free += not (self.lock.locked() and OWN.lock.locked())
        return super().denoise(latents, timestep, text)


def test_both_are_held_while_a_batch_is_made() -> None:
    guide = Watched(SOURCE.pipeline)
    render(guide, make_samples(4))
    assert (guide.calls, guide.free) == (3, 0)
    assert not guide.lock.locked()


def test_without_guidance_the_guide_is_never_asked() -> None:
    guide, samples = Watched(SOURCE.pipeline), make_samples(2)
    assert np.array_equal(pixels(render(guide, samples, guidance=1.0)), pixels(render(None, samples, guidance=1.0)))
    assert guide.calls == 0


@pytest.mark.timeout(120)
def test_two_that_guide_each_other_do_not_wait_for_ever() -> None:
    engine, samples = PlainEngine(steps=1, batch_size=1), make_samples(12)

    def work(model: Any, guide: Any) -> list[Rendered]:
        return list(render_plain(model, samples, engine, None, Clock(), guide))

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(work, (OWN, TWIN), (TWIN, OWN)))
    assert [len(rows) for rows in made] == [12, 12]


def test_a_guide_with_latents_of_another_shape_is_refused() -> None:
    other = UNetGenerator(build_sd())
    other.pipeline.vae_scale_factor = 4
    with pytest.raises(
        RecipeError, match=r"engine\.guide: its latents have the shape \(4, 8, 8\).*generator \(4, 16, 16\)"
    ):
        render(other, make_samples(1))
