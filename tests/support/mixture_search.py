"""Searches on the exact mixture of tests/support/gaussian_mixture.py."""

import numpy as np
import torch

from tailforge.schemas.settings.engines import SearchEngine, SeedSelectEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import Text, prepare_texts
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.methods.seed_select.aim import Aim
from tailforge.tasks.methods.seed_select.engine import Goal, render_searched
from tailforge.tasks.methods.seed_select.search import Batch, Search, aim_each
from tests.support.gaussian_mixture import GaussianMixture, PixelEncoder, is_rare, mixture_samples

QUICK = {"steps": 10, "guidance": 1.0, "plain_samples": 32, "candidates": 4, "screening_steps": 4}


def seed_select(**changes: object) -> SeedSelectEngine:
    return SeedSelectEngine(**{"step_size": 0.1, **changes})


def make_goal(model: GaussianMixture, plain: int = 32, seed: int = 0) -> Goal:
    """References are draws of the rare mode, plain samples draws of the common one."""
    draws = torch.Generator().manual_seed(seed)
    references = (1 + 0.5 * torch.randn(5, 64, generator=draws, dtype=model.dtype)) / 4
    common = (-1 + 0.5 * torch.randn(plain, 64, generator=draws, dtype=model.dtype)) / 4
    return Goal(PixelEncoder(), Aim(references, common, references.mean(0).view(1, 8, 8) * 4))


def make_batch(search: Search, count: int, prompt: str = "a rare thing") -> Batch:
    """Samples of one prompt with their texts and targets."""
    texts, samples = dict[str, Text](), mixture_samples(count, prompt)
    prepare_texts(search.sampling, samples, texts)
    return Batch(samples, texts[prompt].conditioning.expand(count), aim_each(search, samples))


def render(count: int, engine: SearchEngine, model: GaussianMixture | None = None) -> list[Rendered]:
    model = model or GaussianMixture()
    return list(render_searched(model, mixture_samples(count), engine, make_goal(model), None, Clock()))


def share_rare(made: list[Rendered]) -> float:
    return float(np.mean([is_rare(row.pixels) for row in made]))
