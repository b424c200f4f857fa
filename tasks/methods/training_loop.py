"""One training run as a value: modules, moving averages, optimiser and step, saved and restored bit for bit.

Every random draw of step k comes from a generator seeded by (seed, k), so a run that is restored at step k goes on
exactly as if it had never stopped: there is no generator state to save.
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

GRADIENT_NORM = 1.0

State = dict[str, Tensor]
Saved = Mapping[str, Tensor] | None  # what a run goes on from


class Learner:
    """Modules in training with AdamW and an exponential moving average (EMA) of their parameters.

    `ema_decay` is the limit of the average's decay; it starts lower, (1 + step) / (10 + step), so that the first
    weights are soon forgotten.
    """

    def __init__(self, modules: Mapping[str, nn.Module], ema_decay: float, weight_decay: float = 0.01) -> None:
        self.step = 0
        self.ema_decay = ema_decay
        self.parameters = {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in module.named_parameters()
            if value.requires_grad
        }
        self.average = {key: value.detach().clone() for key, value in self.parameters.items()}
        self._optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=0.0, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
        )
        start_moments(self._optimizer, self.parameters.values())

    def learn(self, loss: Tensor, learning_rate: float) -> float:
        """One optimiser step; returns the loss. Errors: TrainingError if the loss is not finite."""
        value = descend(self._optimizer, loss, self.step, learning_rate, clip=self.parameters.values())
        self.finish_step()
        return value

    def finish_step(self) -> None:
        """Count the step and move the average."""
        self.step += 1
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    def state(self) -> State:
        """Everything that `restore` needs, as flat tensors."""
        saved = {"step": torch.tensor(self.step)}
        for key, value in self.parameters.items():
            saved[f"model/{key}"] = value.detach()
            saved[f"average/{key}"] = self.average[key]
        return saved | moments_of(self._optimizer, self.parameters)

    def load_average(self) -> None:
        """Put the moving average into the modules: what is shipped and evaluated."""
        with torch.no_grad():
            for key, value in self.parameters.items():
                value.copy_(self.average[key])


def start_moments(optimizer: torch.optim.Optimizer, values: Iterable[Tensor]) -> None:
    """Adam and AdamW fill their moments in late; a saved run needs them from step 0."""
    for value in values:
        optimizer.state[value] = {
            "step": torch.zeros((), device=value.device),
            "exp_avg": torch.zeros_like(value),
            "exp_avg_sq": torch.zeros_like(value),
        }


def moments_of(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> State:
    """The optimiser's own tensors, as flat names."""
    return {
        f"optimizer/{name}/{key}": moment
        for key, value in parameters.items()
        for name, moment in optimizer.state[value].items()
    }


def descend(
    optimizer: torch.optim.Optimizer, loss: Tensor, step: int, learning_rate: float, clip: Collection[Tensor] = ()
) -> float:
    """One optimiser step; returns the loss. `clip`: parameters whose gradient's norm is bounded by GRADIENT_NORM.

    Errors: TrainingError if the loss is not finite.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(f"the loss is {value} at step {step}; lower the learning rate and start again")
    optimizer.param_groups[0]["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip:
        nn.utils.clip_grad_norm_(clip, GRADIENT_NORM)
    optimizer.step()
    return value


class Trainable(Protocol):
    """What the loop drives and a checkpoint saves, whatever its optimiser."""

    step: int

    def learn(self, loss: Tensor, learning_rate: float) -> float: ...

    def state(self) -> State: ...


Observe = Callable[[Trainable, float], None]


def restore(learner: Trainable, saved: Mapping[str, Tensor]) -> None:
    """Bring a learner back to a saved state. Errors: TrainingError if it belongs to other modules."""
    own = learner.state()
    wrong = sorted(set(own) ^ set(saved)) or [key for key in own if own[key].shape != saved[key].shape]
    if wrong:
        raise TrainingError(
            f"the checkpoint does not fit the model: {wrong[0]} and {len(wrong) - 1} more differ; "
            "it belongs to another training recipe, so remove it or choose another work directory"
        )
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(saved[key])
    learner.step = int(saved["step"])


def run_steps(
    learner: Trainable,
    steps: int,
    loss_at: Callable[[int], Tensor],
    learning_rate_at: Callable[[int], float],
    observe: Observe,
) -> None:
    """Train until `learner.step` is `steps`; `observe(learner, loss)` after every step (progress, checkpoints)."""
    while learner.step < steps:
        step = learner.step
        tell("step", step, steps)
        observe(learner, learner.learn(loss_at(step), learning_rate_at(step)))


def warm_up_then_cosine(peak: float, steps: int, warm_up_steps: int) -> Callable[[int], float]:
    """Learning rate by step: linear from 0 to `peak`, then half a cosine down to 0 at `steps`."""

    def rate(step: int) -> float:
        rising = (step + 1) / (warm_up_steps + 1)
        progress = max(0, step - warm_up_steps) / max(1, steps - warm_up_steps)
        return peak * min(rising, 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)))

    return rate


def numpy_draws(seed: int, step: int) -> np.random.Generator:
    """The numpy generator of one training step."""
    return np.random.default_rng((seed, step))


def torch_draws(seed: int, step: int) -> torch.Generator:
    """The torch generator of one training step."""
    word = hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(word, "little") >> 1)


def degrade(pixels: Tensor, draws: torch.Generator) -> Tensor:
    """Blur, contrast, brightness and noise of a random strength per picture; [N, 3, H, W] in [-1, 1]."""
    blur, contrast, light, grain = torch.rand((4, len(pixels), 1, 1, 1), generator=draws)
    soft = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = torch.lerp(pixels, soft, blur * 0.9) * (0.9 + 0.2 * contrast) + 0.1 * (light - 0.5)
    noisy: Tensor = mixed + 0.06 * grain * torch.randn(pixels.shape, generator=draws)
    return noisy.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
