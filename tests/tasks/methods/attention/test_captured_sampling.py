"""Attention that engines record while they draw: whose map it is, and that the images are those without it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tailforge.schemas.jobs import SampleSpec, Slot
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import (
    BestOfNEngine,
    PlainEngine,
    SearchEngine,
    SeedSelectEngine,
    ZeroOrderEngine,
)
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.methods.seed_select.aim import Aim
from tailforge.tasks.methods.seed_select.engine import Goal, render_kept_noise, render_searched
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.gaussian_mixture import PixelEncoder
from tests.support.tiny_generators import build_sd, build_sdxl, make_samples

SD, SDXL = UNetGenerator(build_sd()), UNetGenerator(build_sdxl())
MODELS = pytest.mark.parametrize("model", [SD, SDXL], ids=["sd", "sdxl"])
ALL = Recording(window=(0.0, 1.0))
SEARCH = {"steps": 2, "batch_size": 2, "candidates": 2, "screening_steps": 2}
ENGINES = [
    SeedSelectEngine(**SEARCH, iterations=1, rounds=1, views=1, checkpointing=True),
    BestOfNEngine(**SEARCH),
    ZeroOrderEngine(**SEARCH, rounds=1, neighbours=1),
]


def render(model: Any, samples: list[SampleSpec], recording: Recording | None = ALL, **settings: Any) -> list[Rendered]:
    engine = PlainEngine(**{"steps": 4, "batch_size": 4, **settings})
    return list(render_plain(model, samples, engine, recording, Clock()))


def speak(prompt: str, *words: str) -> SampleSpec:
    """A sample whose slots are the words, each after the one before it."""
    slots, end = [], 0
    for word in words:
        start = prompt.index(word, end)
        slots.append(Slot(name="concept", value=word, start=start, end=(end := start + len(word))))
    return make_samples(1)[0].model_copy(update={"prompt": prompt, "slots": tuple(slots)})


def maps_of(rendered: Rendered) -> np.ndarray[Any, np.dtype[np.float64]]:
    assert rendered.error is None
    assert rendered.attention is not None
    return rendered.attention.astype(float)


@MODELS
@pytest.mark.parametrize("settings", [{"guidance": 1.0}, {"guidance": 3.0}, {"height": 24, "width": 40}], ids=str)
def test_images_are_those_without_recording_and_no_draw_is_used(model: Any, settings: dict[str, Any]) -> None:
    samples = make_samples(3, ("a gear on a bench", "gear of a photo"))
    plain = render(model, samples, None, **settings)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for recording in (ALL, Recording(window=(0.2, 0.8), affinity=2)):
        recorded = render(model, samples, recording, **settings)
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(plain, recorded, strict=True))
        side = (settings.get("height", 32) // 2, settings.get("width", 32) // 2)
        assert all(maps_of(row).shape == (1, *side) for row in recorded)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.kind)
def test_a_search_chooses_the_same_noise_and_draws_the_same_image(engine: SearchEngine) -> None:
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(5, 32 * 32, generator=draws)
    goal = Goal(PixelEncoder(), Aim(features[:3], features[3:], torch.zeros(4, 16, 16)))
    samples = make_samples(2, ("a gear on a bench", "gear of a photo"))
    plain, recorded = (list(render_searched(SD, samples, engine, goal, each, Clock())) for each in (None, ALL))
    for sample, without, made in zip(samples, plain, recorded, strict=True):
        assert np.array_equal(without.pixels, made.pixels)
        assert np.array_equal(without.noise, made.noise)
        assert made.provenance == without.provenance
        assert without.attention is without.agreement is None
        assert made.noise is not None
        # The attention is that of the image, not of any that was looked at on the way.
        again = render_kept_noise(SD, sample, made.noise, engine, ALL, Clock())
        assert np.array_equal(again.attention, made.attention)
        assert again.agreement == made.agreement


@MODELS
def test_only_the_prompts_half_is_read(model: Any) -> None:
    """At the first of the steps all see the same noise, so guidance and a negative prompt make no difference."""
    first = Recording(window=(1.0, 1.0))
    sample = speak("a gear on a bench", "gear")
    alone = maps_of(render(model, [sample], first, guidance=1.0)[0])
    for settings in ({"guidance": 3.0}, {"guidance": 3.0, "negative_prompt": "gear gear gear"}):
        assert np.abs(maps_of(render(model, [sample], first, **settings)[0]) - alone).max() < 5e-4
    other = maps_of(render(model, [speak("gear gear gear", "gear")], first, guidance=1.0)[0])
    assert np.abs(other - alone).max() > 5e-3


@MODELS
def test_images_of_one_prompt_have_their_own_maps(model: Any) -> None:
    samples = make_samples(3)
    together, alone = render(model, samples), render(model, samples, batch_size=1)
    for one, other in zip(together, alone, strict=True):
        assert np.abs(maps_of(one) - maps_of(other)).max() < 1e-3
    assert len({maps_of(row).tobytes() for row in together}) == 3


@MODELS
def test_a_word_of_pieces_is_their_sum(model: Any) -> None:
    """ "hook" is four tokens of the tiny tokenizer."""
    whole, pieces = (
        maps_of(render(model, [speak("a hook on a bench", *words)])[0]) for words in (["hook"], ["h", "o", "o", "k"])
    )
    assert len(pieces) == 4
    np.testing.assert_allclose(pieces.sum(0), whole[0], atol=2e-3)
    assert (pieces.max((1, 2)) < whole.max()).all()


@MODELS
def test_a_repeated_word_is_read_at_its_own_place(model: Any) -> None:
    both = maps_of(render(model, [speak("a gear on a gear", "gear", "gear")])[0])
    assert not np.array_equal(both[0], both[1])
    second = maps_of(render(model, [speak("a gear on a gear", "a gear", "gear")])[0])[1]
    assert np.array_equal(second, both[1])


@MODELS
def test_a_word_beyond_the_text_is_an_empty_map_and_the_image_is_made(model: Any) -> None:
    (made,) = render(model, [speak("gear " + "a photo of " * 5 + "a bench", "gear", "bench")])
    seen, cut = maps_of(made)
    assert seen.any()
    assert not cut.any()
    assert made.agreement is not None
    assert made.agreement[0] > 0 == made.agreement[1]


def interrupted(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rendered]:
    calls = iter([False, True])
    true_denoise = model.denoise

    def denoise(*arguments: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return true_denoise(*arguments)

    monkeypatch.setattr(model, "denoise", denoise)
    return render_plain(model, make_samples(2), PlainEngine(steps=4), Recording(affinity=1), Clock())


@MODELS
def test_an_interrupted_batch_leaves_nothing_behind(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    modules, processors = list(model.denoiser.modules()), dict(model.denoiser.attn_processors)
    with pytest.raises(KeyboardInterrupt):
        list(interrupted(model, monkeypatch))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
    assert model.denoiser.attn_processors == processors
    assert not model.lock.locked()
