"""Run a training step by step, and save and restore its state bit for bit.

The state of a run is its modules, moving averages, optimiser and step. Every random draw of step k comes from a
generator seeded by (seed, k), so no state of a random generator is saved. A run restored at step k continues exactly
as if it had never stopped.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailforge.schemas.errors import TrainingError
from tailforge.schemas.under_way import tell

GRADIENT_NORM = 1.0  # upper bound of the norm of all gradients together

State = dict[str, Tensor]
Saved = Mapping[str, Tensor] | None  # the state from which a run continues


class Learner:
    """Modules in training with AdamW (arXiv 1711.05101) and an exponential moving average (EMA) of their parameters.

    The decay of the average starts at (1 + step) / (10 + step) and grows up to `ema_decay`. So the average soon
    forgets the first weights.
    """

    def __init__(self, modules: Mapping[str, nn.Module], ema_decay: float, weight_decay: float = 0.01) -> None:
        # Frozen parameters are neither optimised nor saved.
        self.step = 0
        self.ema_decay = ema_decay
        self.parameters = {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in module.named_parameters()
            if value.requires_grad
        }

        # The average starts as a copy of the weights.
        self.average = {key: value.detach().clone() for key, value in self.parameters.items()}
        self._optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=0.0, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
        )
        start_moments(self._optimizer, self.parameters.values())

    def learn(self, loss: Tensor, learning_rate: float) -> float:
        """Make one optimiser step on a loss (scalar) and return its value.

        Errors: TrainingError if the loss is not finite.
        """
        value = descend(self._optimizer, loss, self.step, learning_rate, clip=self.parameters.values())
        self.finish_step()
        return value

    def finish_step(self) -> None:
        """Count the step and move the average towards the parameters."""
        self.step += 1
        # average = decay * average + (1 - decay) * parameters, for all tensors in one call.
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    def state(self) -> State:
        """Return the state that `restore` reads: tensors by flat names, in the parameters' own shapes."""
        # Step, weights, averages and AdamW's moments.
        saved = {"step": torch.tensor(self.step)}
        for key, value in self.parameters.items():
            saved[f"model/{key}"] = value.detach()
            saved[f"average/{key}"] = self.average[key]
        return saved | moments_of(self._optimizer, self.parameters)

    def load_average(self) -> None:
        """Replace the modules' weights by the moving average, for evaluation and export."""
        with torch.no_grad():
            for key, value in self.parameters.items():
                value.copy_(self.average[key])


def start_moments(optimizer: torch.optim.Optimizer, values: Iterable[Tensor]) -> None:
    """Create the moments of Adam or AdamW as zeros, each in its parameter's shape.

    PyTorch creates them in the first step; a saved run needs them from step 0.
    """
    for value in values:
        optimizer.state[value] = {
            "step": torch.zeros((), device=value.device),
            "exp_avg": torch.zeros_like(value),
            "exp_avg_sq": torch.zeros_like(value),
        }


def moments_of(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> State:
    """Return the optimiser's own tensors by flat names; moments have their parameter's shape, the step is a scalar."""
    return {
        f"optimizer/{name}/{key}": moment
        for key, value in parameters.items()
        for name, moment in optimizer.state[value].items()
    }


def descend(
    optimizer: torch.optim.Optimizer, loss: Tensor, step: int, learning_rate: float, clip: Collection[Tensor] = ()
) -> float:
    """Make one optimiser step on a loss (scalar) and return its value.

    `clip`: parameters, of any shape; GRADIENT_NORM bounds the norm of their gradients. Errors: TrainingError if the
    loss is not finite.
    """
    # Stop before a loss that is not finite reaches the weights.
    value = float(loss.detach())
    require_finite(value, step)

    # Gradients of this step only, clipped, then the update.
    optimizer.param_groups[0]["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip:
        nn.utils.clip_grad_norm_(clip, GRADIENT_NORM)
    optimizer.step()
    return value


def require_finite(loss: float, step: int) -> None:
    """Refuse a loss that is not finite, by a TrainingError."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at step {step}; the last checkpoint is kept: lower the learning rate and start again "
            "in another folder"
        )


class Trainable(Protocol):
    """A model in training, with any optimiser, as `run_steps` and checkpoints use it."""

    step: int

    def learn(self, loss: Tensor, learning_rate: float) -> float:
        """Make one optimiser step on a loss (scalar) and return its value."""

    def state(self) -> State:
        """Return the state that `restore` reads: tensors by flat names."""


Observe = Callable[[Trainable, float], None]


def restore(learner: Trainable, saved: Mapping[str, Tensor]) -> None:
    """Bring a learner back to a saved state: tensors by the names and in the shapes of `state`.

    Errors: TrainingError if the state belongs to other modules.
    """
    # Names and shapes must be those of the learner.
    own = learner.state()
    wrong = sorted(set(own) ^ set(saved)) or [key for key in own if own[key].shape != saved[key].shape]
    if wrong:
        raise TrainingError(
            f"the checkpoint does not fit the model: {wrong[0]} and {len(wrong) - 1} more differ; "
            "it belongs to another training recipe, so remove it or choose another work directory"
        )

    # The tensors of the state are those of the learner, so copies restore it in place.
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(saved[key])
    learner.step = int(saved["step"])


def run_steps(learner: Trainable, steps: int, advance: Callable[[int], float], saved: Saved, observe: Observe) -> None:
    """Train from `saved` on until `learner.step` is `steps`, and call `observe(learner, loss)` after every step.

    `advance` makes the step of this number and returns its loss. Observers show progress or save checkpoints.
    Errors: TrainingError for a loss that is not finite, or a saved state of other modules.
    """
    if saved:
        restore(learner, saved)
    while learner.step < steps:
        tell("step", learner.step, steps)
        observe(learner, advance(learner.step))


def learn_steps(
    learner: Trainable,
    steps: int,
    loss_at: Callable[[int], Tensor],
    learning_rate_at: Callable[[int], float],
    saved: Saved,
    observe: Observe,
) -> None:
    """Train as `run_steps` does, by one optimiser step on the loss (scalar) that `loss_at` returns for each step."""
    run_steps(learner, steps, lambda step: learner.learn(loss_at(step), learning_rate_at(step)), saved, observe)


def warm_up_then_cosine(peak: float, steps: int, warm_up_steps: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the step: linear up to `peak`, then half a cosine to 0 at `steps`.

    Source: "SGDR" (arXiv 1608.03983), equation 5, without restarts.
    """

    def rate(step: int) -> float:
        # Both curves are fractions of the peak. The lower one counts.
        rising = (step + 1) / (warm_up_steps + 1)
        progress = max(0, step - warm_up_steps) / max(1, steps - warm_up_steps)
        return peak * min(rising, 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)))

    return rate


def numpy_draws(seed: int, step: int) -> np.random.Generator:
    """Return the numpy generator of one training step."""
    return np.random.default_rng((seed, step))


def torch_draws(seed: int, step: int) -> torch.Generator:
    """Return the torch generator of one training step."""
    # A digest mixes seed and step into 63 bits.
    word = hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(word, "little") >> 1)


def degrade(pixels: Tensor, draws: torch.Generator) -> Tensor:
    """Change blur, contrast, brightness and noise of pictures [N, 3, H, W] in [-1, 1], each picture at random.

    Return pictures of the same shape and range.
    """
    # One strength per picture and effect, uniform in [0, 1).
    blur, contrast, light, grain = torch.rand((4, len(pixels), 1, 1, 1), generator=draws)

    # Mix with a 3 x 3 mean (blur), scale (contrast), shift (brightness) and add noise (grain).
    soft = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = torch.lerp(pixels, soft, blur * 0.9) * (0.9 + 0.2 * contrast) + 0.1 * (light - 0.5)
    noisy: Tensor = mixed + 0.06 * grain * torch.randn(pixels.shape, generator=draws)
    return noisy.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
