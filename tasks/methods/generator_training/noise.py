"""Noising clean latents, what a network's output says of them, and how much each noise level counts.

With a = alphas_cumprod[t] and noise n: x_t = sqrt(a) x + sqrt(1 - a) n (Ho et al. 2020, equation 4); SNR = a / (1 - a).
Letters of shapes: B images, C channels, H and W latent rows and columns, T noise levels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tailforge.schemas.training.generator import Weighting

PREDICTIONS = ("epsilon", "v_prediction", "sample")
LEAST = 1e-6  # in place of a division by zero, where the weight is zero too


@dataclass(frozen=True)
class NoiseSchedule:
    """`signal` [T] is alphas_cumprod; `prediction` what the network gives: noise, velocity or the clean latent."""

    signal: Tensor
    prediction: str

    def kept(self, times: Tensor) -> Tensor:
        """a of each time [B], as [B, 1, 1, 1]."""
        return self.signal[times].view(-1, 1, 1, 1)

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_t [B, C, H, W] at times [B]."""
        kept = self.kept(times)
        return kept.sqrt() * clean + (1 - kept).sqrt() * noise

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the network should give. Velocity: sqrt(a) n - sqrt(1 - a) x (Salimans and Ho 2022)."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean
        kept = self.kept(times)
        return kept.sqrt() * noise - (1 - kept).sqrt() * clean

    def predict_clean(self, output: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """The clean latent that an output means, not clipped: clipping would have no gradient where it acts."""
        kept = self.kept(times)
        if self.prediction == "epsilon":
            return (noisy - (1 - kept).sqrt() * output) / kept.clamp(min=LEAST).sqrt()
        if self.prediction == "sample":
            return output
        return kept.sqrt() * noisy - (1 - kept).sqrt() * output

    def weigh(self, times: Tensor, weighting: Weighting, limit: float) -> Tensor:
        """Weight [B] of the squared error of the network's output.

        Each weighting is one of the clean latent's error, times the factor between that and the output's error: 1/SNR
        of the noise, 1/(SNR + 1) of the velocity. Written in a, which has no infinity at either end.
        """
        kept = self.signal[times]
        clipped = limit * (1 - kept)
        of_velocity = {
            "epsilon": kept,
            "velocity": torch.ones_like(kept),
            "min_snr": torch.minimum(kept, clipped),
            "min_snr_plus_one": clipped.clamp(max=1),
        }[weighting]
        if self.prediction == "epsilon":
            return of_velocity / kept.clamp(min=LEAST)
        if self.prediction == "sample":
            return of_velocity / (1 - kept).clamp(min=LEAST)
        return of_velocity

    def loss(self, output: Tensor, clean: Tensor, drawn: "Draws", weighting: Weighting, limit: float) -> Tensor:
        """Mean weighted squared error of a network's output [B, C, H, W] for latents noised by `drawn`."""
        errors = (output - self.target(clean, drawn.noise, drawn.times)).square().mean(dim=(1, 2, 3))
        return (errors * self.weigh(drawn.times, weighting, limit)).mean()


@dataclass(frozen=True)
class Draws:
    """Randomness of one step: times int64 [B], one for each group of neighbours, and noise [B, C, H, W]."""

    times: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> "Draws":
        """On a device."""
        return Draws(self.times.to(device), self.noise.to(device))


def draw_noise(shape: torch.Size, levels: int, group: int, draws: torch.Generator) -> Draws:
    """Noise levels spread evenly from a random start, which steadies the loss; `group` neighbours share one."""
    count = shape[0] // group
    offsets = (torch.rand((), generator=draws) + torch.arange(count) / count) % 1
    times = (offsets[torch.randperm(count, generator=draws)] * levels).long().repeat_interleave(group)
    return Draws(times, torch.randn(shape, generator=draws))
