"""Choosing noises without gradients: finalists, rounds, rivals, mixes with noises found before."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailforge.schemas.settings.engines import BestOfNEngine, SearchEngine, ZeroOrderEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.seed_select.engine import Seeds, find_noise, mix, open_search, render_searched
from tailforge.tasks.methods.seed_select.rivals import neighbour
from tailforge.tasks.methods.seed_select.screening import score_noise, screen, screen_rounds
from tailforge.tasks.methods.seed_select.search import Batch, Search
from tests.support.gaussian_mixture import GaussianMixture, mixture_samples
from tests.support.mixture_search import QUICK, make_batch, make_goal, render, seed_select, share_rare


def score_candidates(search: Search, batch: Batch, count: int, steps: int) -> torch.Tensor:
    """Scores [count, K] of the first candidates of every image."""
    size = len(batch.samples)
    return torch.stack([score_noise(search, batch, batch.noise(search, [n] * size), steps) for n in range(count)])


@pytest.mark.parametrize(
    "engine",
    [
        BestOfNEngine(**QUICK),
        BestOfNEngine(**QUICK | {"candidates": 1}),
        ZeroOrderEngine(**QUICK | {"neighbours": 2}),
        ZeroOrderEngine(**QUICK | {"candidates": 1, "neighbours": 2}),
    ],
)
def test_rivals_search_a_half_precision_generator_and_count_what_they_do(engine: SearchEngine) -> None:
    model = GaussianMixture(torch.float16)
    made = list(render_searched(model, mixture_samples(3), engine, make_goal(GaussianMixture()), None, Clock()))
    assert [row.error for row in made] == [None] * 3
    assert sum(row.provenance["forward_evaluations"] for row in made) == model.calls


@given(st.integers(0, 10_000), st.floats(0.05, 0.99))
def test_a_neighbour_has_the_norm_and_the_cosine_asked_for(seed: int, cosine: float) -> None:
    noise, direction = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = neighbour(noise, direction, cosine)
    for one, other in zip(noise, found, strict=True):
        assert other.norm().item() == pytest.approx(one.norm().item())
        assert ((one * other).sum() / one.norm() ** 2).item() == pytest.approx(cosine)


def test_an_overflow_is_worse_than_any_image() -> None:
    class Bright(GaussianMixture):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            pixels = super().decode(latents)
            return torch.where(pixels > 0.5, torch.inf, pixels)  # clamped it would be as good as the references

    search = open_search(Bright(), BestOfNEngine(**QUICK), make_goal(GaussianMixture()), None, Clock())
    batch = make_batch(search, 4)
    bright = torch.ones_like(batch.noise(search, [0] * 4))
    assert score_noise(search, batch, bright * 9, 4).tolist() == [-2.0] * 4


def test_mixes_with_found_seeds_are_mostly_right_and_need_no_gradient() -> None:
    model, engine = GaussianMixture(), seed_select(**QUICK | {"fresh_share": 0.2, "mode": "bootstrapped"})
    found = find_noise(model, mixture_samples(8), seed_select(**QUICK), make_goal(model), Clock())
    goal = make_goal(model)
    seeds = Seeds(torch.stack([each.noise for each in found]), [sample.prompt for sample in mixture_samples(8)])
    goal = replace(goal, seeds=seeds)
    samples = [s.model_copy(update={"sample_id": f"m{s.sample_id}", "seed": s.seed + 1}) for s in mixture_samples(40)]
    made = list(render_searched(model, samples, engine, goal, None, Clock()))
    assert share_rare(made) > 0.8
    assert all(row.provenance["backward_evaluations"] == 0 for row in made)
    norms = [row.provenance["noise_norm"] for row in made]
    square = float(seeds.noise.square().sum()) / len(found)  # a mix is as long as its parts; their mean is shorter
    assert np.mean(norms) == pytest.approx((0.8 * square + 0.2 * 64) ** 0.5, rel=0.05)
    assert len({row.pixels.tobytes() for row in made}) == 40


def test_an_image_starts_from_a_noise_found_for_its_own_prompt() -> None:
    seeds = Seeds(torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 8, 8), ["red", "blue", "red"])
    engine = seed_select(**QUICK | {"mode": "bootstrapped", "fresh_share": 1e-12})
    search = open_search(GaussianMixture(), engine, make_goal(GaussianMixture()), None, Clock())
    for prompt, known in (("red", {0.0, 2.0}), ("blue", {1.0}), ("green", {0.0, 1.0, 2.0})):  # none is of green: any
        mixed = mix(search, make_batch(search, 30, prompt), seeds, range(30))
        assert set(mixed.round().flatten().tolist()) == known


@pytest.mark.parametrize(("finalists", "at_once"), [(1, 0), (4, 0), (4, 30)])
def test_finalists_are_chosen_by_what_they_become_with_all_steps(finalists: int, at_once: int) -> None:
    model, goal = GaussianMixture(), make_goal(GaussianMixture())
    engine = seed_select(**QUICK | {"candidates": 8, "screening_steps": 1, "iterations": 0, "finalists": finalists})
    search = open_search(model, engine, goal, None, Clock())
    batch = make_batch(search, 12)
    by_few, by_all = (score_candidates(search, batch, 8, steps) for steps in (engine.few_steps, engine.steps))
    entrants = by_few.argsort(0, descending=True)[:finalists]
    expected = entrants.gather(0, by_all.gather(0, entrants).argmax(0, keepdim=True))[0]
    found = screen(search, batch, range(8), finalists, at_once=at_once)
    assert [each.candidate for each in found] == expected.tolist()
    scores = (by_all if finalists > 1 else by_few).gather(0, expected[None])[0]
    assert [each.score for each in found] == pytest.approx(scores.tolist())
    assert [each.plain_score for each in found] == pytest.approx(by_few.mean(0).tolist())


def test_rounds_keep_the_best_of_all_and_compare_it_with_all_that_was_seen() -> None:
    engine = seed_select(**QUICK | {"rounds": 3, "finalists": 1, "stop": None})
    search = open_search(GaussianMixture(), engine, make_goal(GaussianMixture()), None, Clock())
    batch = make_batch(search, 12)
    scores = score_candidates(search, batch, 3 * engine.candidates, engine.few_steps)
    found = screen_rounds(search, batch, engine)
    assert [each.candidate for each in found] == scores.argmax(0).tolist()
    assert {each.candidate // engine.candidates for each in found} == {0, 1, 2}
    assert [each.plain_score for each in found] == pytest.approx(scores.mean(0).tolist())


def test_candidates_of_images_that_go_on_fill_the_places_of_those_that_are_done() -> None:
    class Measured(GaussianMixture):
        def __init__(self) -> None:
            super().__init__()
            self.widths: list[int] = []

        def denoise(self, latents: torch.Tensor, timestep: object, text: Conditioning) -> torch.Tensor:
            self.widths.append(len(latents))
            return super().denoise(latents, timestep, text)

    model = Measured()
    engine = seed_select(**QUICK | {"rounds": 6, "stop": 0.7})
    search = open_search(model, engine, make_goal(GaussianMixture()), None, Clock())
    found = screen_rounds(search, make_batch(search, 12), engine)
    assert any(each.done for each in found)
    assert not all(each.done for each in found)
    widest, rows = max(model.widths), sum(model.widths)
    assert rows == sum(each.forward for each in found)
    assert len(model.widths) <= rows // widest + 6 * (4 + 10)  # full but for the last of a look


def test_an_image_that_is_good_enough_has_no_further_round() -> None:
    """What 40 noises in rounds choose is good enough, or the best of them all."""
    changes = {"candidates": 4, "rounds": 10, "finalists": 2, "iterations": 0, "stop": 0.7}
    model = GaussianMixture()
    made = render(24, seed_select(**QUICK | changes), model)
    rounds = [(row.provenance["forward_evaluations"] - 10) / (4 * 4 + 2 * 10) for row in made]
    assert sum(row.provenance["forward_evaluations"] for row in made) == model.calls
    for row, count in zip(made, rounds, strict=True):
        good = row.provenance["confidence"] >= 0.7
        assert (row.provenance.get("stop_reason") == "confident") == good
        assert 4 * (count - 1) <= row.provenance["candidate"] < 4 * count if good else count == 10
    assert len(set(rounds)) > 2
