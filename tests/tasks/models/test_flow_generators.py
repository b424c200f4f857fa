"""Stable Diffusion 3 and Flux as generators: images of diffusers' own pipelines, words found in each encoder's text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import BuildContext, ResolvedModel, SampleSpec, Slot
from tailforge.schemas.recipe import parse_recipe
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.methods.sampling.renoised_attention import Captioned, read_attention
from tailforge.tasks.models.flow_generators import SD3_TOKENS, FluxGenerator, StableDiffusion3Generator
from tailforge.tasks.models.generator_files import check_generator
from tailforge.tasks.models.text_to_image import load_build_generator, load_generator
from tests.support.tiny_flows import build_flux, build_sd3, save
from tests.support.tiny_generators import make_samples

PROMPTS = ("a photo of a gear on a wooden bench", "a gear", "gear of a photo")
CLIP_TOKENS = 16
ALL = Recording(window=(0.0, 1.0))
SIZE = {"height": 32, "width": 32}
SD3, FLUX = StableDiffusion3Generator(build_sd3()), FluxGenerator(build_flux())
MODELS = pytest.mark.parametrize("model", [SD3, FLUX], ids=["sd3", "flux"])


def render(
    model: Any, samples: list[SampleSpec], recording: Recording | None = None, **settings: Any
) -> list[Rendered]:
    engine = PlainEngine(**{"steps": 4, "batch_size": 4, **SIZE, **settings})
    return list(render_plain(model, samples, engine, recording, Clock()))


def pixels(rendered: list[Rendered]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    assert all(row.error is None for row in rendered), [row.error for row in rendered]
    return np.stack([row.pixels for row in rendered if row.pixels is not None])


def pipeline_images(pipeline: Any, samples: list[SampleSpec], **options: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in samples]
    made = pipeline(
        [s.prompt for s in samples],
        num_inference_steps=4,
        generator=generators,
        output_type="np",
        **{**SIZE, **options},
    )
    return (made.images * 255).round().astype(np.uint8)


@pytest.mark.parametrize("scheduler", [{}, {"use_dynamic_shifting": True}, {"use_karras_sigmas": True}], ids=str)
@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"guidance": 3.0}, {"guidance_scale": 3.0}),
        ({"guidance": 1.0}, {"guidance_scale": 1.0}),
        ({"guidance": 4.0, "negative_prompt": "wooden"}, {"guidance_scale": 4.0, "negative_prompt": ["wooden"] * 3}),
    ],
    ids=["guided", "unguided", "negative"],
)
def test_sd3_equals_the_pipeline(settings: dict[str, Any], options: dict[str, Any], scheduler: dict[str, Any]) -> None:
    pipeline, samples = build_sd3(**scheduler), make_samples(3, PROMPTS)
    ours = pixels(render(StableDiffusion3Generator(pipeline), samples, **settings))
    theirs = pipeline_images(pipeline, samples, **options)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert (ours != theirs).mean() < 0.01


@pytest.mark.parametrize("guidance", [1.0, 3.5])
@pytest.mark.parametrize("distilled", [True, False], ids=["dev", "schnell"])
def test_flux_equals_the_pipeline(distilled: bool, guidance: float) -> None:
    pipeline, samples = build_flux(distilled), make_samples(3, PROMPTS)
    ours = pixels(render(FluxGenerator(pipeline), samples, guidance=guidance))
    assert np.array_equal(ours, pipeline_images(pipeline, samples, guidance_scale=guidance))


def test_a_distilled_scale_changes_the_image_and_needs_no_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    true_denoise = FLUX.denoise

    def denoise(latents: Any, timestep: Any, text: Any) -> Any:
        rows.append(len(latents))
        return true_denoise(latents, timestep, text)

    monkeypatch.setattr(FLUX, "denoise", denoise)
    little, much = (pixels(render(FLUX, make_samples(2), guidance=scale)) for scale in (1.0, 30.0))
    assert not np.array_equal(little, much)
    assert rows == [2] * 8


@MODELS
def test_a_wide_image_equals_the_pipeline(model: Any) -> None:
    samples, wide = make_samples(2), {"height": 24, "width": 40}
    made = render(model, samples, ALL, guidance=3.0, **wide)
    assert np.array_equal(pixels(made), pipeline_images(model.pipeline, samples, guidance_scale=3.0, **wide))
    assert made[0].attention is not None
    assert made[0].attention.shape == (1, 6, 10)


@MODELS
def test_capture_leaves_the_image_bit_equal_and_nothing_behind(model: Any) -> None:
    samples = make_samples(3, PROMPTS)
    for guidance in (1.0, 3.0):
        recorded = render(model, samples, ALL, guidance=guidance)
        assert np.array_equal(pixels(recorded), pixels(render(model, samples, guidance=guidance)))
        assert all(row.attention is not None and row.attention.shape == (1, 8, 8) for row in recorded)
        assert all(row.agreement is not None and 0 < row.agreement[0] < 1 for row in recorded)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.denoiser.modules())


@MODELS
def test_a_sample_alone_is_the_sample_in_its_batch(model: Any) -> None:
    samples = make_samples(4, PROMPTS)
    together, alone = (render(model, samples, ALL, batch_size=size) for size in (4, 1))
    assert np.abs(pixels(together).astype(int) - pixels(alone)).max() <= 1
    assert len({row.pixels.tobytes() for row in together if row.pixels is not None}) == 4
    for one, other in zip(together, alone, strict=True):
        assert one.attention is not None
        assert other.attention is not None
        np.testing.assert_allclose(one.attention.astype(float), other.attention.astype(float), atol=1e-3)


def test_sd3_reads_only_the_prompts_half() -> None:
    """At the first step all see the same noise, so guidance and a negative prompt make no difference."""
    first, samples = Recording(window=(1.0, 1.0)), make_samples(2)
    alone = render(SD3, samples, first, guidance=1.0)
    for row, other in zip(alone, render(SD3, samples, first, guidance=3.0, negative_prompt="gear gear"), strict=True):
        assert row.attention is not None
        assert other.attention is not None
        np.testing.assert_allclose(row.attention.astype(float), other.attention.astype(float), atol=1e-3)


def test_words_are_found_in_the_text_of_every_encoder() -> None:
    prompt = "a photo of a gear on a hook"
    spans = [(prompt.index(word), prompt.index(word) + len(word)) for word in ("gear", "hook")]
    # CLIP puts a token in front of the text and spells "hook" in 4 letters; T5 puts none, and a space token to those.
    assert FLUX.locate_tokens(prompt, spans) == [[4], [7, 8, 9, 10, 11]]
    clip, t5 = [[5], [8, 9, 10, 11]], [[4], [7, 8, 9, 10, 11]]
    both = [own + [CLIP_TOKENS + token for token in other] for own, other in zip(clip, t5, strict=True)]
    assert SD3.locate_tokens(prompt, spans) == both
    assert SD3.encode_prompt(prompt).embeds.shape[1] == CLIP_TOKENS + SD3_TOKENS
    assert StableDiffusion3Generator(build_sd3(t5=False)).locate_tokens(prompt, spans) == clip


def test_a_word_that_clip_cut_off_keeps_its_tokens_of_t5() -> None:
    prompt = "a photo of a wooden bench " * 3 + "gear"
    (tokens,) = SD3.locate_tokens(prompt, [(len(prompt) - 4, len(prompt))])
    assert tokens == [CLIP_TOKENS + 18]


@MODELS
def test_a_word_beyond_all_texts_is_an_empty_map_and_the_image_is_made(model: Any) -> None:
    prompt = "gear " + "a photo of " * 200 + "bench"
    slots = [("gear", 0), ("bench", len(prompt) - 5)]
    sample = make_samples(1)[0].model_copy(
        update={
            "prompt": prompt,
            "slots": tuple(Slot(name="concept", value=word, start=at, end=at + len(word)) for word, at in slots),
        }
    )
    (made,) = render(model, [sample], ALL)
    assert made.attention is not None
    assert made.attention[0].any()
    assert not made.attention[1].any()
    assert made.agreement is not None
    assert made.agreement[0] > 0 == made.agreement[1]


@pytest.mark.parametrize(
    ("build", "adapt"), [(build_sd3, StableDiffusion3Generator), (build_flux, FluxGenerator)], ids=["sd3", "flux"]
)
def test_bfloat16_draws_what_the_pipeline_draws_and_is_read(build: Any, adapt: Any) -> None:
    pipeline, samples = build().to(dtype=torch.bfloat16), make_samples(2)
    made = render(adapt(pipeline), samples, ALL, guidance=3.0)
    theirs = pipeline_images(pipeline, samples, guidance_scale=3.0)
    assert np.abs(pixels(made).astype(int) - theirs).max() <= 1
    for row, exact in zip(made, render(adapt(build()), samples, ALL, guidance=3.0), strict=True):
        assert row.attention is not None
        assert exact.attention is not None
        np.testing.assert_allclose(row.attention.astype(float), exact.attention.astype(float), rtol=0.1)


def test_sd3_without_t5_draws_and_is_read() -> None:
    pipeline, samples = build_sd3(t5=False), make_samples(2)
    made = render(StableDiffusion3Generator(pipeline), samples, ALL)
    assert np.array_equal(pixels(made), pipeline_images(pipeline, samples, guidance_scale=3.0))
    assert all(row.attention is not None and row.attention.any() for row in made)


@MODELS
def test_latents_are_shifted_and_scaled_as_the_pipeline_does(model: Any) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        mean = model.pipeline.vae.encode(images).latent_dist.mean
        latents = model.encode(images)
        torch.testing.assert_close(latents, (mean - 0.06) * 1.5)
        torch.testing.assert_close(model.decode(latents), model.pipeline.vae.decode(mean).sample)


@MODELS
@pytest.mark.parametrize(("share", "step"), [(0.0, 0.0), (0.25, 250.0), (1.0, 1000.0)])
def test_noise_is_added_along_the_flow(model: Any, share: float, step: float) -> None:
    latents, noise = torch.full((1, 4, 2, 2), 2.0), torch.full((1, 4, 2, 2), -1.0)
    noisy, at = model.add_noise(latents, noise, share)
    torch.testing.assert_close(noisy, (1 - share) * latents + share * noise)
    assert float(at) == step


@MODELS
def test_pictures_of_others_are_read(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.pipeline, "default_sample_size", 16)
    draws = np.random.default_rng(0)
    pictures = [
        Captioned(draws.integers(0, 256, (40, 48, 3), np.uint8), "a photo of a gear", ((13, 17),), seed)
        for seed in range(2)
    ]
    together = read_attention(model, pictures, 0.2, 2)
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = read_attention(model, [picture], 0.2, 2)
        assert found.maps.shape == (1, 8, 8)
        assert found.maps.any()
        np.testing.assert_allclose(alone.maps.astype(float), found.maps.astype(float), atol=2e-3)
        assert alone.agreement == pytest.approx(found.agreement, abs=1e-2)


@MODELS
def test_sizes_that_make_no_whole_tokens_are_refused(model: Any) -> None:
    assert model.latent_shape(32, 40) == (4, 16, 20)
    with pytest.raises(RecipeError, match=r"engine.width is 34; .* multiple of 4, try 32"):
        model.latent_shape(32, 34)


def test_sd3_knows_positions_up_to_a_size() -> None:
    with pytest.raises(RecipeError, match=r"engine.height is 128; .* up to 64, try 64"):
        SD3.latent_shape(128, 32)


@MODELS
def test_another_scheduler_is_refused(model: Any) -> None:
    with pytest.raises(RecipeError, match=r"engine.scheduler is ddim; .* set it to model"):
        model.make_scheduler("ddim")


@MODELS
def test_affinity_is_refused(model: Any) -> None:
    with pytest.raises(RecipeError, match=r"annotation.affinity .* set it to 0"):
        render(model, make_samples(1), Recording(affinity=2))


@pytest.mark.parametrize("build", [build_sd3, lambda: build_sd3(t5=False), build_flux], ids=["sd3", "no t5", "flux"])
def test_a_saved_pipeline_passes_and_draws_the_same(build: Any, tmp_path: Path) -> None:
    pipeline = build()
    resolved = save(pipeline, tmp_path / "model")
    check_generator(resolved)
    adapt = FluxGenerator if "Flux" in type(pipeline).__name__ else StableDiffusion3Generator
    loaded = load_generator(ResolvedModel(path=resolved.path, digest=str(tmp_path)))
    assert isinstance(loaded, adapt)
    if loaded.device.type == "cpu":
        drawn, expected = (pixels(render(model, make_samples(2))) for model in (loaded, adapt(pipeline)))
        assert np.abs(drawn.astype(int) - expected).max() <= 1  # of weights in another order in memory


def test_what_a_hub_model_cannot_do_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    recipe = parse_recipe(
        {
            "name": "tiny",
            "description": "A test.",
            "seed": 1,
            "concepts": [{"name": "gear", "requested": 3}],
            "generator": {"model": "owner/name", "revision": "0" * 40},
            "engine": {"kind": "plain", "scheduler": "ddim"},
        },
        "recipe.yaml",
    )
    generator = ResolvedModel(path=save(build_flux(), tmp_path / "model").path, digest=str(tmp_path))
    with pytest.raises(RecipeError, match=r"engine.scheduler is ddim, but a FluxPipeline .* set it to model"):
        load_build_generator(BuildContext(store=str(tmp_path), recipe=recipe, generator=generator))


def test_another_flow_scheduler_is_refused(tmp_path: Path) -> None:
    resolved = save(build_flux(), tmp_path / "model")
    config = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("FlowMatchEuler", "FlowMatchHeun"))
    with pytest.raises(ModelError, match=r"FlowMatchHeun.*runs with only FlowMatchEulerDiscreteScheduler"):
        check_generator(resolved)
