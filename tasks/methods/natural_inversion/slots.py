"""Hold the state of one batch in training.

Batches side by side share only a pass of the teacher. Each has its own weights, optimiser and random draws; they are
stacked for the forward pass alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from tailforge.schemas.settings.inversion import InversionSettings
from tailforge.tasks.methods.natural_inversion.generator import Weights
from tailforge.tasks.methods.natural_inversion.jitter import Jitter
from tailforge.tasks.methods.natural_inversion.pyramid import PYRAMID_PARTS


@dataclass(frozen=True)
class Batch:
    """Samples that share one generator. `place`: of the batch in the call."""

    place: int
    labels: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def seed(self) -> int:
        """Return the seed of weights and jitter. It is derived from the first sample's seed, apart from its noise."""
        # A hash keeps the batch's stream apart from the samples' streams.
        digest = hashlib.sha256(f"natural_inversion {self.seeds[0]}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


@dataclass
class Best:
    """The candidate with the lowest loss so far, chosen without waiting for the device."""

    images: Tensor  # [B, C, H, W]
    alpha: Tensor | None  # [B, C]
    losses: dict[str, Tensor]
    step: Tensor

    def keep_better(self, images: Tensor, alpha: Tensor | None, losses: dict[str, Tensor], step: int) -> None:
        """Take images [B, C, H, W] over if their total is lower; a total that is not a number never is."""
        # `where` in place of `if`: the device decides, and the CPU does not wait.
        better = losses["total"] < self.losses["total"]
        self.images = torch.where(better, images, self.images)
        if alpha is not None and self.alpha is not None:
            self.alpha = torch.where(better, alpha, self.alpha)
        self.losses = {name: torch.where(better, losses[name], value) for name, value in self.losses.items()}
        self.step = torch.where(better, torch.full_like(self.step, step), self.step)


@dataclass
class Slot:
    """A batch and its training state; `features` of the last step, per tap [B, c, h, w]."""

    batch: Batch
    weights: Weights
    noise: Tensor  # [B, latent_size + classes]
    labels: Tensor  # [B]
    draws: Tensor  # [steps, 2, 3]
    optimizer: torch.optim.Optimizer
    best: Best
    step: int = 0
    features: list[Tensor] | None = None
    last_total: Tensor | None = field(default=None)
    done: bool = False


@dataclass(frozen=True)
class Stack:
    """The contents of the slots, side by side."""

    weights: Weights  # [K, ...]
    noise: Tensor  # [K, B, latent_size + classes]
    labels: Tensor  # [B, K]
    features: list[Tensor] | None  # [B, K, c, h, w]; None: not stale, to be read

    @property
    def alpha(self) -> Tensor:
        """Return the channel scales [B, K, C, 1, 1]."""
        return self.weights["alpha"].transpose(0, 1)[..., None, None]


def stack_slots(slots: Sequence[Slot]) -> Stack:
    """Stack slots of one batch size; gradients reach each slot's own weights."""
    # Stacking costs a copy, but no gradient is mixed between slots.
    features = [slot.features for slot in slots if slot.features is not None]
    return Stack(
        {name: _stack([slot.weights[name] for slot in slots], 0) for name in slots[0].weights},
        _stack([slot.noise for slot in slots], 0),
        _stack([slot.labels for slot in slots], 1),
        [_stack(list(maps), 1) for maps in zip(*features, strict=True)] if len(features) == len(slots) else None,
    )


def stack_jitter(slots: Sequence[Slot], which: int) -> Jitter:
    """Return the first (0) or second (1) jitter of each slot's step."""
    drawn = _stack([slot.draws[slot.step, which] for slot in slots], 0)
    return Jitter(drawn[:, 0], drawn[:, 1], drawn[:, 2])


def start_slot(
    batch: Batch, weights: Weights, draws: Tensor, classes: int, settings: InversionSettings, device: torch.device
) -> Slot:
    """Return a slot at step 0 with its noise, labels and the jitter `draws` [steps, 2, 3] of its training."""
    own = {name: value.to(device).requires_grad_() for name, value in weights.items()}

    # Noise: one normal vector per sample from its own seed, then the label as one-hot.
    labels = torch.tensor(batch.labels)
    latent = torch.stack([torch.randn(settings.latent_size, generator=_stream(seed)) for seed in batch.seeds])
    noise = torch.cat([latent, torch.nn.functional.one_hot(labels, classes).to(latent.dtype)], dim=1)

    # No candidate yet: an infinite loss that any finite one beats.
    infinite = torch.full((), float("inf"), device=device)
    names = ("total", "cross_entropy", "statistics", "variation", "norm")
    best = Best(torch.zeros((), device=device), own["alpha"].detach() if "alpha" in own else None,
                dict.fromkeys(names, infinite), torch.zeros((), dtype=torch.int64, device=device))  # fmt: skip
    return Slot(batch, own, noise.to(device), labels.to(device), draws.to(device), _adam(own, settings), best)


def _adam(weights: Weights, settings: InversionSettings) -> torch.optim.Optimizer:
    """Return one Adam with a rate per part: element by element equal to the published three."""
    # Parts with equal rates share a group.
    rates = {"alpha": settings.alpha_rate, "pixels": settings.pixel_rate}
    groups: dict[float, list[Tensor]] = {}
    for name, value in weights.items():
        usual = settings.pyramid_rate if name.startswith(PYRAMID_PARTS) else settings.generator_rate
        groups.setdefault(rates.get(name, usual), []).append(value)
    return torch.optim.Adam([{"params": values, "lr": rate} for rate, values in groups.items()], fused=True)


def _stream(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def _stack(values: list[Tensor], dim: int) -> Tensor:
    return values[0].unsqueeze(dim) if len(values) == 1 else torch.stack(values, dim)
