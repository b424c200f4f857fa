"""The gradient steps of SeedSelect: exact slopes through the sampler, and steps of the length asked for."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailforge.schemas.settings.engines import SeedSelectEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.seed_select.engine import find_noise, open_search
from tailforge.tasks.methods.seed_select.optimise import look, step_on_shell
from tests.support.gaussian_mixture import GaussianMixture, mixture_samples
from tests.support.mixture_search import QUICK, make_batch, make_goal, render, seed_select


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_through_the_chain_is_that_of_finite_differences(guidance: float, checkpointing: bool) -> None:
    model = GaussianMixture(torch.float64)
    engine = seed_select(**QUICK | {
        "steps": 3, "guidance": guidance, "checkpointing": checkpointing, "unconditional_gradient": True,
        "appearance_weight": 0.3, "last_steps": (0.2, 0.8), "views": 1,
    })  # fmt: skip
    search = open_search(model, engine, make_goal(model), None, Clock())
    batch = make_batch(search, 2)

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
    model, slopes = GaussianMixture(torch.float64), []
    for both in (True, False):
        engine = seed_select(**QUICK | {"guidance": guidance, "unconditional_gradient": both, "stop": None})
        search = open_search(model, engine, make_goal(model), None, Clock())
        draws = torch.Generator().manual_seed(3)
        noise = torch.randn(2, 1, 8, 8, generator=draws, dtype=torch.float64).requires_grad_()
        losses = look(search, make_batch(search, 2), engine, noise).losses
        slopes.append((losses.detach(), torch.autograd.grad(losses.sum(), noise)[0]))
    (loss, true), (same, found) = slopes
    assert torch.allclose(loss, same)
    assert torch.allclose(found, true, rtol=1e-6)


def test_a_gradient_of_the_last_steps_alone_differs_and_is_cheaper() -> None:
    whole, last = (seed_select(**QUICK | {"iterations": 1, "grad_steps": n, "stop": None}) for n in (None, 2))
    one, two = render(1, whole)[0], render(1, last)[0]
    assert one.provenance["backward_evaluations"] == 10
    assert two.provenance["backward_evaluations"] == 2
    assert not np.array_equal(one.noise, two.noise)


@given(st.integers(0, 10_000), st.floats(0.01, 0.5))
def test_a_step_on_the_shell_keeps_the_norm_and_turns_by_its_size(seed: int, size: float) -> None:
    draws = torch.Generator().manual_seed(seed)
    noise, gradient = torch.randn(2, 4, 8, 8, generator=draws, dtype=torch.float64)
    moved = step_on_shell(noise, gradient, size)
    assert moved.norm().item() == pytest.approx(noise.norm().item())
    cosine = (moved * noise).sum() / noise.norm() ** 2
    assert cosine.item() == pytest.approx(1 / (1 + size**2) ** 0.5)


def test_noise_stays_on_its_shell() -> None:
    model = GaussianMixture()
    engine = seed_select(**QUICK | {"candidates": 1, "stop": None, "patience": None})
    for sample, found in zip(
        mixture_samples(3), find_noise(model, mixture_samples(3), engine, make_goal(model), Clock()), strict=True
    ):
        start = torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(sample.seed))
        assert found.noise.norm().item() == pytest.approx(start.norm().item(), rel=1e-5)


def test_published_steps_are_long_three_times_and_then_short() -> None:
    noises = []
    for iterations in range(6):
        model = GaussianMixture()
        engine = SeedSelectEngine(
            preset="published", guidance=1.0, steps=5, iterations=iterations, last_steps=(1.0,), patience=None
        )
        (found,) = find_noise(model, mixture_samples(1), engine, make_goal(model), Clock())
        noises.append(found.noise)
    moves = [float((b - a).abs().max()) for a, b in itertools.pairwise(noises)]
    assert moves[0] == pytest.approx(0.1, rel=0.05)  # Adam's first step is the rate in every coordinate
    assert max(moves[3:]) < 0.02 < min(moves[:3])
