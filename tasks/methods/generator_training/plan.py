"""Describe a training of a denoiser: its number of steps, rates and loss.

A generator that is trained or adapted follows its recipe's learning settings. The embedded generator follows phases
(tasks/methods/embedded/diffusion.py).
"""

from collections.abc import Callable
from dataclasses import dataclass

from tailforge.schemas.training.generator import LearningSettings, Weighting
from tailforge.tasks.methods.training_loop import warm_up_then_cosine


@dataclass(frozen=True)
class Plan:
    """All that decides the steps of a training, its batches aside.

    `learning_rate`, `ema_decay`: functions of the step, from 0. `weighting`, `snr_limit`: how much each noise level
    counts in the loss. `passes`: forward passes per step and device. `shared_noise`: images that share a noise level in
    steps that compare relations, one in `play_every`.
    """

    steps: int
    seed: int
    learning_rate: Callable[[int], float]
    ema_decay: Callable[[int], float]
    weighting: Weighting
    snr_limit: float
    weight_decay: float
    passes: int = 1
    shared_noise: int = 1
    play_every: int = 1

    def sharing(self, step: int) -> int:
        """Return how many neighbours of a step's batch share a noise level."""
        return 1 if step % self.play_every else self.shared_noise


def plan_learning(settings: LearningSettings, play_every: int = 1) -> Plan:
    """Return the plan of a recipe's learning settings; one step in `play_every` may compare relations."""
    return Plan(
        steps=settings.steps,
        seed=settings.seed,
        learning_rate=_learning_rate(settings),
        ema_decay=lambda step: settings.ema_decay,
        weighting=settings.weighting,
        snr_limit=settings.snr_limit,
        weight_decay=settings.weight_decay,
        passes=settings.passes,
        shared_noise=settings.shared_noise,
        play_every=play_every,
    )


def _learning_rate(settings: LearningSettings) -> Callable[[int], float]:
    """Return the learning rate by step: it rises, then stays or falls along half a cosine."""
    # Both schedules rise linearly first.
    warm_up = round(settings.warm_up * settings.steps)
    if settings.schedule == "cosine":
        return warm_up_then_cosine(settings.learning_rate, settings.steps, warm_up)
    return lambda step: settings.learning_rate * min(1.0, (step + 1) / (warm_up + 1))
