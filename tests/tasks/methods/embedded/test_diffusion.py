import numpy as np
import pytest
import torch

from tailforge.schemas.training.embedded import DiffusionPhase
from tailforge.tasks.methods.embedded.diffusion import (
    build_scheduler,
    draw_rows,
    find_phase,
    learning_rate_at,
    plan_phases,
    signal_levels,
    train_diffusion,
)
from tailforge.tasks.methods.generator_training.noise import Draws, NoiseSchedule
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.workshop import PARTS
from tests.support.tiny_training import tiny_settings


@pytest.mark.parametrize(("kept", "weight"), [(0.0, 1.0), (0.5, 1.0), (0.8, 1.0), (0.9, 0.5), (0.98, 0.1)])
def test_the_loss_of_the_velocity_counts_little_noise_less(kept: float, weight: float) -> None:
    plan = plan_phases(tiny_settings().diffusion, seed=0)
    schedule = NoiseSchedule(torch.full((1000,), kept), "v_prediction")
    clean, noise = torch.randn((2, 8, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    drawn = Draws(torch.zeros(8, dtype=torch.long), noise)
    velocity = kept**0.5 * noise - (1 - kept) ** 0.5 * clean
    loss = schedule.loss(velocity + 0.3, clean, drawn, plan.weighting, plan.snr_limit)
    assert float(loss) == pytest.approx(0.09 * weight, rel=1e-3)


def test_noise_schedule_is_the_saved_samplers_and_ends_in_pure_noise() -> None:
    levels = signal_levels()
    assert levels[-1].item() == pytest.approx(0.0, abs=1e-7)
    assert (levels.diff() <= 0).all()
    sampler = build_scheduler().alphas_cumprod
    assert torch.allclose(levels[:-1], sampler[:-1], atol=1e-6)


def test_learning_rate_is_linear_within_a_phase() -> None:
    phases = [phase((0.0, 1.0), 4), phase((1.0, 1.0), 2), phase((1.0, 0.0), 4)]
    found = [learning_rate_at(phases, step) for step in range(10)]
    assert found == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25])
    assert find_phase(phases, 5)[0] is phases[1]


def test_rare_part_is_drawn_seldom_and_from_few_pictures() -> None:
    settings = tiny_settings().diffusion.model_copy(update={"batch": 4000, "total_images": 100})
    chosen = DiffusionPhase(steps=1, learning_rate=(0.1, 0.1), part_weights={"gear": 0.98, "hook": 0.02})
    rows = {part: np.arange(number * 200, number * 200 + 200) for number, part in enumerate(PARTS)}
    drawn = draw_rows(chosen, rows, settings, np.random.default_rng(0))
    hooks = drawn[drawn >= PARTS.index("hook") * 200]
    assert set(hooks.tolist()) == {2200, 2201}
    assert len(hooks) / len(drawn) == pytest.approx(0.02, abs=0.01)
    assert set((drawn[drawn < 200]).tolist()) == set(range(98))


def test_a_phase_may_average_over_fewer_steps() -> None:
    recipe = tiny_settings()
    first, second = recipe.diffusion.phases
    settings = recipe.diffusion.model_copy(update={"phases": (first, second.model_copy(update={"ema_decay": 0.0}))})
    latents = np.zeros((12, 4, 8, 8), np.float32)
    labels = np.array([[part, 0, 0] for part in range(12)], dtype=np.int16)
    decays: list[float] = []
    train_diffusion(
        latents,
        labels,
        lambda texts: Conditioning(torch.zeros(len(texts), 2, 8)),
        settings,
        0,
        None,
        lambda learner, loss: decays.append(learner.ema_decay),
    )
    assert decays == [0.5, 0.5, 0.0, 0.0]


def phase(rates: tuple[float, float], steps: int) -> DiffusionPhase:
    return DiffusionPhase(steps=steps, learning_rate=rates, part_weights={"gear": 1.0})
