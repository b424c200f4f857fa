"""Choosing noises without gradients: finalists, rounds, rivals, mixes with noises found before."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.engines import BestOfNEngine, SearchEngine, ZeroOrderEngine
from tasks.methods.clock import Clock
from tasks.methods.generator import join_conditionings
from tasks.methods.plain_sampling import Text, prepare_texts
from tasks.methods.seed_select.engine import Seeds, find_noise, open_search, render_searched
from tasks.methods.seed_select.screening import score_noise, screen
from tasks.methods.seed_select.search import Batch, Search, aim_each
from tests.gaussian_mixture import GaussianMixture, mixture_samples
from tests.mixture_search import QUICK, make_goal, render, seed_select, share_rare


def make_batch(search: Search, count: int) -> Batch:
    texts, samples = dict[str, Text](), mixture_samples(count)
    prepare_texts(search.sampling, samples, texts)
    text = join_conditionings([texts[sample.prompt].conditioning for sample in samples])
    return Batch(samples, text, aim_each(search, samples))


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


def test_an_overflow_is_worse_than_any_image() -> None:
    class Bright(GaussianMixture):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            pixels = super().decode(latents)
            return torch.where(pixels > 0.5, torch.inf, pixels)  # clamped it would be as good as the references

    model, goal = Bright(), make_goal(GaussianMixture())
    search, texts, samples = (
        open_search(model, BestOfNEngine(**QUICK), goal, None, Clock()),
        dict[str, Text](),
        mixture_samples(4),
    )
    prepare_texts(search.sampling, samples, texts)
    batch = Batch(
        samples, join_conditionings([texts[s.prompt].conditioning for s in samples]), aim_each(search, samples)
    )
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
    seeds = Seeds(torch.zeros(3, 1, 8, 8), ["red", "blue", "red"])
    assert seeds.of("red") == [0, 2]
    assert seeds.of("blue") == [1]
    assert seeds.of("green") == [0, 1, 2]  # none of its own: any


@pytest.mark.parametrize("finalists", [1, 4])
def test_finalists_are_chosen_by_what_they_become_with_all_steps(finalists: int) -> None:
    model, goal = GaussianMixture(), make_goal(GaussianMixture())
    engine = seed_select(**QUICK | {"candidates": 8, "screening_steps": 1, "iterations": 0, "finalists": finalists})
    search = open_search(model, engine, goal, None, Clock())
    batch = make_batch(search, 12)
    by_few, by_all = (
        torch.stack([score_noise(search, batch, batch.noise(search, [n] * 12), steps) for n in range(8)])
        for steps in (engine.few_steps, engine.steps)
    )
    entrants = by_few.argsort(0, descending=True)[:finalists]
    expected = entrants.gather(0, by_all.gather(0, entrants).argmax(0, keepdim=True))[0]
    found = screen(search, batch, range(8), finalists)
    assert [each.candidate for each in found] == expected.tolist()
    scores = (by_all if finalists > 1 else by_few).gather(0, expected[None])[0]
    assert [each.score for each in found] == pytest.approx(scores.tolist())
    assert [each.plain_score for each in found] == pytest.approx(by_few.mean(0).tolist())


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
