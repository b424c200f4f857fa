"""SeedSelect on a generator that is known exactly: what it finds, what it costs, what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.engines import BestOfNEngine, SeedSelectEngine, ZeroOrderEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.sampling.rendered import OUT_OF_MEMORY
from tailforge.tasks.methods.seed_select.aim import Aim
from tailforge.tasks.methods.seed_select.engine import Goal, Seeds, find_noise, render_kept_noise, render_searched
from tests.support.gaussian_mixture import GaussianMixture, mixture_samples
from tests.support.mixture_search import QUICK, make_goal, render, seed_select, share_rare


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
    draws = torch.randn(64, generator=torch.Generator().manual_seed(0))
    rival = normalize(goal.aim.units.mean(0) + 0.3 * draws, dim=0)
    near = []
    for weight in (0.0, 20.0):
        engine = seed_select(**QUICK | {"contrast_weight": weight, "stop": None, "patience": None})
        told = Goal(goal.encoder, goal.aim, rival[None])
        made = render_searched(model, mixture_samples(4), engine, told, None, Clock())
        images = to_tensor(np.stack([row.pixels for row in made]))[:, 0].flatten(1)
        near.append(float((normalize(images, dim=-1) @ rival).mean()))
    assert near[1] < near[0]


def test_a_batch_equals_its_images_one_by_one() -> None:
    model = GaussianMixture()
    together = find_noise(model, mixture_samples(6), seed_select(**QUICK), make_goal(model), Clock())
    alone = [
        find_noise(model, [sample], seed_select(**QUICK), make_goal(model), Clock())[0] for sample in mixture_samples(6)
    ]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one.noise, other.noise, atol=1e-4)
        assert (one.candidate, one.record["stop_reason"]) == (other.candidate, other.record["stop_reason"])


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


def test_gradients_that_do_not_fit_keep_the_screening() -> None:
    class Small(GaussianMixture):
        """Holds gradients of two images only."""

        def denoise(self, latents, timestep, text):  # type: ignore[no-untyped-def]
            if torch.is_grad_enabled() and len(latents) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().denoise(latents, timestep, text)

    engine = seed_select(**QUICK | {"batch_size": 4, "iterations": 2})
    small, large = Small(), GaussianMixture()
    made, whole = render(4, engine, small), render(4, engine, large)
    assert [row.error for row in made] == [None] * 4
    assert [row.provenance["candidate"] for row in made] == [row.provenance["candidate"] for row in whole]
    assert all(row.provenance["backward_evaluations"] for row in made)
    assert small.calls == large.calls  # nothing was screened twice

    class Tiny(GaussianMixture):
        def denoise(self, latents, timestep, text):  # type: ignore[no-untyped-def]
            if torch.is_grad_enabled():
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().denoise(latents, timestep, text)

    assert [row.error for row in render(2, engine, Tiny())] == [OUT_OF_MEMORY] * 2


def test_a_sampler_that_adds_noise_is_refused() -> None:
    class Ancestral(GaussianMixture):
        def make_scheduler(self, name: str, size=None):  # type: ignore[no-untyped-def]
            from diffusers import EulerAncestralDiscreteScheduler

            if hasattr(self, "levels"):
                return EulerAncestralDiscreteScheduler()
            return super().make_scheduler(name, size)

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
