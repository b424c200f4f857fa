"""Run the training loop of pre-training: AdamW, averaged weights, a cosine schedule; it keeps every loss."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tailforge.schemas.training.pretraining import PretrainSettings
from tailforge.tasks.methods.training_loop import (
    Learner,
    Observe,
    Saved,
    State,
    learn_steps,
    warm_up_then_cosine,
)


class PretrainLearner(Learner):
    """A learner; its `losses` [steps] hold the loss of every past step, NaN for the steps ahead."""

    def __init__(self, modules: Mapping[str, nn.Module], settings: PretrainSettings) -> None:
        super().__init__(modules, settings.ema_decay, settings.weight_decay)
        self.losses = torch.full((settings.steps,), math.nan)

    def learn(self, loss: Tensor, learning_rate: float) -> float:
        """Take one optimiser step by a scalar loss and return it. Errors: TrainingError if it is not finite."""
        value = super().learn(loss, learning_rate)
        self.losses[self.step - 1] = value
        return value

    def state(self) -> State:
        """Return everything that `restore` needs, as flat tensors."""
        return {**super().state(), "losses": self.losses}


def fit(
    learner: PretrainLearner,
    loss_at: Callable[[int], Tensor],
    settings: PretrainSettings,
    saved: Saved,
    observe: Observe,
) -> None:
    """Train from `saved` on by scalar losses, then load the averaged weights. Errors: TrainingError."""
    # Everything random follows from seed and step.
    rate = warm_up_then_cosine(settings.learning_rate, settings.steps, round(settings.warm_up * settings.steps))
    learn_steps(learner, settings.steps, loss_at, rate, saved, observe)

    # The averaged weights are the result.
    learner.load_average()
