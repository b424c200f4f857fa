"""SeedSelect on a generator that is known exactly: what it finds, what it costs, what it leaves alone."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from schemas.engines import BestOfNEngine, SeedSelectEngine, ZeroOrderEngine
from schemas.errors import RecipeError
from tasks.methods.clock import Clock
from tasks.methods.pixels import to_tensor
from tasks.methods.plain_sampling import OUT_OF_MEMORY, Text, prepare_texts, render_plain
from tasks.methods.seed_select.aim import Aim
from tasks.methods.seed_select.engine import (
    Goal,
    Seeds,
    find,
    find_noise,
    open_search,
    render_kept_noise,
    render_searched,
)
from tasks.methods.seed_select.optimise import look, step_on_shell
from tasks.methods.seed_select.rivals import neighbour
from tasks.methods.seed_select.search import Batch, aim_each
from tests.gaussian_mixture import GaussianMixture, mixture_samples
from tests.mixture_search import QUICK, make_goal, render, seed_select, share_rare


def test_a_mode_of_two_percent_is_found_nearly_always() -> None:
    plain = seed_select(**QUICK | {"candidates": 1, "iterations": 0})
    assert share_rare(render(100, plain)) < 0.1
    assert share_rare(render(40, seed_select(**QUICK))) > 0.9


def test_gradient_steps_do_work_that_screening_alone_does_not() -> None:
    screened = share_rare(render(60, BestOfNEngine(**QUICK)))
    assert screened < 0.4
    assert share_rare(render(60, seed_select(**QUICK | {"candidates": 1}))) > screened + 0.4


def test_rivals_find_more_than_plain_sampling() -> None:
    assert share_rare(render(40, BestOfNEngine(**QUICK | {"candidates": 64}))) > 0.35
    walker = ZeroOrderEngine(**QUICK | {"rounds": 8, "neighbours": 8, "cosine": 0.7})
    assert share_rare(render(40, walker)) > share_rare(render(40, BestOfNEngine(**QUICK)))


def test_zero_iterations_are_the_plain_sample_bit_for_bit() -> None:
    model = GaussianMixture()
    engine = seed_select(**QUICK | {"candidates": 1, "iterations": 0})
    plain = list(render_plain(model, mixture_samples(3), engine.model_copy(update={"batch_size": 1}), None, Clock()))
    for expected, row in zip(plain, render(3, engine, model), strict=True):
        assert np.array_equal(expected.pixels, row.pixels)
        assert row.noise is None


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_through_the_chain_is_that_of_finite_differences(guidance: float, checkpointing: bool) -> None:
    model = GaussianMixture(torch.float64)
    engine = seed_select(**QUICK | {
        "steps": 3, "guidance": guidance, "checkpointing": checkpointing, "unconditional_gradient": True,
        "appearance_weight": 0.3, "last_steps": (0.2, 0.8), "views": 1,
    })  # fmt: skip
    search, texts = open_search(model, engine, make_goal(model), None, Clock()), dict[str, Text]()
    samples = mixture_samples(2)
    prepare_texts(search.sampling, samples, texts)
    batch = Batch(samples, texts[samples[0].prompt].conditioning.expand(2), aim_each(search, samples))

    def loss(noise: torch.Tensor) -> torch.Tensor:
        return look(search, batch, engine, noise).losses.sum()

    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(loss(leaf := noise.clone().requires_grad_()), leaf)
    for place in [(0, 0, 1, 2), (1, 0, 7, 3), (1, 0, 0, 0)]:
        nudge = torch.zeros_like(noise)
        nudge[place] = 1e-5
        slope = (loss(noise + nudge) - loss(noise - nudge)) / 2e-5
        assert gradient[place].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("guidance", [2.0, 3.0, 7.5])
def test_a_constant_unconditional_branch_leaves_the_gradient_its_direction(guidance: float) -> None:
    """Both branches of this model are one function, so the gradient is known: that with both differentiated."""
    model, samples = GaussianMixture(torch.float64), mixture_samples(2)
    slopes = []
    for both in (True, False):
        engine = seed_select(**QUICK | {"guidance": guidance, "unconditional_gradient": both, "stop": None})
        search, texts = open_search(model, engine, make_goal(model), None, Clock()), dict[str, Text]()
        prepare_texts(search.sampling, samples, texts)
        batch = Batch(samples, texts[samples[0].prompt].conditioning.expand(2), aim_each(search, samples))
        noise = torch.randn(
            2, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64
        ).requires_grad_()
        losses = look(search, batch, engine, noise).losses
        slopes.append((losses.detach(), torch.autograd.grad(losses.sum(), noise)[0]))
    (loss, true), (same, found) = slopes
    assert torch.allclose(loss, same)
    assert torch.allclose(found, true, rtol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw"}, {"mode": "bootstrapped"}])
def test_a_half_precision_generator_is_searched_in_single_precision(changes: dict[str, object]) -> None:
    """As on CUDA. In half precision Adam's second moment of a small gradient is 0, and its step infinite."""
    model = GaussianMixture(torch.float16)
    goal = make_goal(GaussianMixture())
    engine = seed_select(**QUICK | {"stop": None, "iterations": 3, **changes})
    if changes.get("mode"):
        found = find_noise(model, mixture_samples(2), seed_select(**QUICK), goal, Clock())
        noise = torch.stack([each.noise for each in found]).float()
        goal = replace(goal, seeds=Seeds(noise, [sample.prompt for sample in mixture_samples(2)]))
    for row in render_searched(model, mixture_samples(2), engine, goal, None, Clock()):
        assert row.error is None
        assert row.provenance.get("stop_reason") != "not_finite"
        assert row.noise is not None
        assert np.isfinite(row.noise).all()


def test_a_contrast_turns_the_search_away_from_rivals() -> None:
    model = GaussianMixture()
    goal = make_goal(model)
    rival = torch.nn.functional.normalize(
        goal.aim.units.mean(0) + 0.3 * torch.randn(64, generator=torch.Generator()), dim=0
    )
    near = []
    for weight in (0.0, 20.0):
        engine = seed_select(**QUICK | {"contrast_weight": weight, "stop": None, "patience": None})
        told = Goal(goal.encoder, goal.aim, rival[None])
        made = render_searched(model, mixture_samples(4), engine, told, None, Clock())
        images = to_tensor(np.stack([row.pixels for row in made]))[:, 0].flatten(1)
        near.append(float((torch.nn.functional.normalize(images, dim=-1) @ rival).mean()))
    assert near[1] < near[0]


def test_a_gradient_of_the_last_steps_alone_differs_and_is_cheaper() -> None:
    whole, last = (seed_select(**QUICK | {"iterations": 1, "grad_steps": n, "stop": None}) for n in (None, 2))
    one, two = render(1, whole)[0], render(1, last)[0]
    assert one.provenance["backward_evaluations"] == 10
    assert two.provenance["backward_evaluations"] == 2
    assert not np.array_equal(one.noise, two.noise)


def test_a_batch_equals_its_images_one_by_one() -> None:
    model = GaussianMixture()
    together = find_noise(model, mixture_samples(6), seed_select(**QUICK), make_goal(model), Clock())
    alone = [
        find_noise(model, [sample], seed_select(**QUICK), make_goal(model), Clock())[0] for sample in mixture_samples(6)
    ]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one.noise, other.noise, atol=1e-4)
        assert (one.candidate, one.record["stop_reason"]) == (other.candidate, other.record["stop_reason"])


def test_noise_stays_on_its_shell() -> None:
    model = GaussianMixture()
    engine = seed_select(**QUICK | {"candidates": 1, "stop": None, "patience": None})
    for sample, found in zip(
        mixture_samples(3), find_noise(model, mixture_samples(3), engine, make_goal(model), Clock()), strict=True
    ):
        start = torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(sample.seed))
        assert found.noise.norm().item() == pytest.approx(start.norm().item(), rel=1e-5)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 0.5))
def test_a_step_on_the_shell_keeps_the_norm_and_turns_by_its_size(seed: int, size: float) -> None:
    draws = torch.Generator().manual_seed(seed)
    noise, gradient = torch.randn(2, 4, 8, 8, generator=draws, dtype=torch.float64)
    moved = step_on_shell(noise, gradient, size)
    assert moved.norm().item() == pytest.approx(noise.norm().item())
    cosine = (moved * noise).sum() / noise.norm() ** 2
    assert cosine.item() == pytest.approx(1 / (1 + size**2) ** 0.5)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.99))
def test_a_neighbour_has_the_norm_and_the_cosine_asked_for(seed: int, cosine: float) -> None:
    noise, direction = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = neighbour(noise, direction, cosine)
    for one, other in zip(noise, found, strict=True):
        assert other.norm().item() == pytest.approx(one.norm().item())
        assert ((one * other).sum() / one.norm() ** 2).item() == pytest.approx(cosine)


def test_after_a_stop_no_more_is_computed() -> None:
    model = GaussianMixture()
    made = render(4, seed_select(**QUICK | {"stop": 1e-6}), model)
    assert {row.provenance["stop_reason"] for row in made} >= {"confident"}
    assert model.calls == sum(row.provenance["forward_evaluations"] for row in made)


def test_evaluations_are_counted() -> None:
    model = GaussianMixture()
    changes = {"iterations": 3, "rounds": 2, "finalists": 3, "stop": None, "patience": None, "checkpointing": False}
    engine = seed_select(**QUICK | changes)
    (made,) = render(1, engine, model)
    screening, looking, rendering = 2 * (4 * 4 + 3 * 10), 4 * 10, 10
    assert made.provenance["forward_evaluations"] == screening + looking + rendering == model.calls
    assert made.provenance["backward_evaluations"] == 3 * 10
    kept = GaussianMixture()
    (again,) = render(1, engine.model_copy(update={"checkpointing": True}), kept)
    assert again.provenance["forward_evaluations"] == kept.calls == model.calls + 3 * 10
    assert np.array_equal(made.pixels, again.pixels)


def test_the_best_look_is_kept_not_the_last() -> None:
    far = seed_select(**QUICK | {"step_size": 3.0, "iterations": 6, "stop": None, "patience": None})
    near = seed_select(**QUICK | {"step_size": 1e-6, "iterations": 1, "stop": None})
    for one, other in zip(render(4, far), render(4, near), strict=True):
        assert one.provenance["loss"] <= other.provenance["loss"] + 1e-3


def test_patience_ends_a_way_that_leads_nowhere() -> None:
    engine = seed_select(**QUICK | {"step_size": 3.0, "iterations": 50, "patience": 2, "stop": None})
    assert {row.provenance["stop_reason"] for row in render(3, engine)} == {"no_better"}


def test_the_published_preset_has_the_published_numbers() -> None:
    engine = SeedSelectEngine(preset="published")
    assert (engine.scheduler, engine.steps, engine.guidance, engine.iterations) == ("ddim", 20, 7.5, 30)
    assert (engine.optimizer, engine.step_size, engine.later_step_size) == ("adamw", 0.1, 0.01)
    assert (engine.semantic_weight, engine.appearance_weight, engine.last_steps) == (10.0, 1.0, (0.05, 0.25, 0.70))
    assert (engine.target, engine.candidates, engine.stop, engine.patience) == ("centroid", 1, None, None)
    assert SeedSelectEngine(preset="published", steps=5).steps == 5


def test_published_steps_are_long_three_times_and_then_short() -> None:
    lengths = []
    for iterations in range(6):
        model = GaussianMixture()
        engine = SeedSelectEngine(
            preset="published", guidance=1.0, steps=5, iterations=iterations, last_steps=(1.0,), patience=None
        )
        model_goal = make_goal(model)
        search, texts = open_search(model, engine, model_goal, None, Clock()), dict[str, Text]()
        samples = mixture_samples(1)
        prepare_texts(search.sampling, samples, texts)
        lengths.append(find(search, samples, texts, None)[0].noise)
    moves = [float((b - a).abs().max()) for a, b in itertools.pairwise(lengths)]
    assert moves[0] == pytest.approx(0.1, rel=0.05)  # Adam's first step is the rate in every coordinate
    assert max(moves[3:]) < 0.02 < min(moves[:3])


@pytest.mark.parametrize("repulsion", [0.0, 1.0])
def test_a_sample_that_is_not_finite_fails_alone(repulsion: float) -> None:
    model = GaussianMixture()
    samples = mixture_samples(3)
    samples[1] = samples[1].model_copy(update={"prompt": "a broken thing"})
    goal = make_goal(model)
    engine = seed_select(**QUICK | {"repulsion_weight": repulsion})
    made = list(render_searched(model, samples, engine, goal, None, Clock()))
    assert [row.error for row in made] == [None, "image is not finite", None]
    if not repulsion:  # which makes batch-mates count
        assert np.array_equal(made[0].pixels, render(3, engine)[0].pixels)


def test_an_image_is_made_again_from_its_kept_noise_without_searching() -> None:
    model = GaussianMixture()
    engine = seed_select(**QUICK)
    for sample, row in zip(mixture_samples(3), render(3, engine, model), strict=True):
        model.calls = 0
        again = render_kept_noise(model, sample, row.noise, engine, None, Clock())
        assert np.array_equal(again.pixels, row.pixels)
        assert model.calls == engine.steps


def test_out_of_memory_halves_the_batch() -> None:
    class Small(GaussianMixture):
        def denoise(self, latents, timestep, text):  # type: ignore[no-untyped-def]
            if len(latents) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().denoise(latents, timestep, text)

    class Tiny(GaussianMixture):
        def denoise(self, latents, timestep, text):  # type: ignore[no-untyped-def]
            raise torch.OutOfMemoryError("CUDA out of memory")

    engine = seed_select(**QUICK | {"batch_size": 4, "iterations": 2})
    assert [row.error for row in render(4, engine, Small())] == [None] * 4
    assert [row.error for row in render(2, engine, Tiny())] == [OUT_OF_MEMORY] * 2


def test_a_sampler_that_adds_noise_is_refused() -> None:
    class Ancestral(GaussianMixture):
        def make_scheduler(self, name: str):  # type: ignore[no-untyped-def]
            from diffusers import EulerAncestralDiscreteScheduler

            if hasattr(self, "levels"):
                return EulerAncestralDiscreteScheduler()
            return super().make_scheduler(name)

    with pytest.raises(RecipeError, match="EulerAncestralDiscreteScheduler, which adds noise"):
        render(1, seed_select(**QUICK), Ancestral())


def test_a_difference_leaves_out_what_plain_samples_have_too() -> None:
    plain = torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]])
    references = torch.tensor([[1.0, 0.1, 0.5], [1.0, 0.0, 0.5], [1.0, -0.1, 0.5]])
    aim = Aim(references, plain, torch.zeros(1))
    difference, centroid = aim.target([0, 1, 2], "difference"), aim.target([0, 1, 2], "centroid")
    assert centroid[0] > centroid[2]
    assert difference[2] > difference[0]
    assert (difference.norm().item(), centroid.norm().item()) == pytest.approx((1, 1))
    assert aim.gap("difference") == pytest.approx(expected_gap(references, plain), rel=1e-4)


def expected_gap(references: torch.Tensor, plain: torch.Tensor) -> float:
    """The confidence's unit by the textbook: each reference along the target of the others."""
    units, middle = normalize(references, dim=-1), normalize(plain, dim=-1).mean(0)
    along = [
        float((units[i] - middle) @ normalize(units[[j for j in range(3) if j != i]].mean(0) - middle, dim=-1))
        for i in range(3)
    ]
    return sum(along) / 3
