"""Add noise to clean latents, read a network's output, and weigh the noise levels in its loss.

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
    """The noise levels of a network. `signal` [T]: alphas_cumprod. `prediction`: its output, one of PREDICTIONS."""

    signal: Tensor
    prediction: str

    def kept(self, times: Tensor) -> Tensor:
        """Return a of each time [B], as [B, 1, 1, 1]."""
        return self.signal[times].view(-1, 1, 1, 1)

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return x_t of clean latents and noise [B, C, H, W] at times [B]: [B, C, H, W]."""
        kept = self.kept(times)
        return kept.sqrt() * clean + (1 - kept).sqrt() * noise

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return the output [B, C, H, W] that the network should learn, for clean latents and noise at times [B]."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean

        # Velocity: sqrt(a) n - sqrt(1 - a) x (Salimans and Ho 2022).
        kept = self.kept(times)
        return kept.sqrt() * noise - (1 - kept).sqrt() * clean

    def predict_clean(self, output: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """Return the clean latents that an output means, [B, C, H, W], for noisy latents at times [B].

        They are not clipped: where clipping acts, it would have no gradient.
        """
        # Solve x_t = sqrt(a) x + sqrt(1 - a) n for x.
        kept = self.kept(times)
        if self.prediction == "epsilon":
            return (noisy - (1 - kept).sqrt() * output) / kept.clamp(min=LEAST).sqrt()
        if self.prediction == "sample":
            return output

        # sqrt(a) x_t - sqrt(1 - a) v = a x + (1 - a) x, for the noise cancels.
        return kept.sqrt() * noisy - (1 - kept).sqrt() * output

    def weigh(self, times: Tensor, weighting: Weighting, limit: float) -> Tensor:
        """Return the weights [B] of the squared error of the network's output, at times [B].

        A weighting is defined for the error of the clean latents. The output's error counts by that weight times 1/SNR
        for noise and 1/(SNR + 1) for velocity. Everything is written in a, which is finite at both ends.
        """
        # Weights of the velocity's error. SNR + 1 = 1 / (1 - a), so min(SNR + 1, limit) becomes min(1, limit (1 - a)).
        kept = self.signal[times]
        clipped = limit * (1 - kept)
        of_velocity = {
            "epsilon": kept,
            "velocity": torch.ones_like(kept),
            "min_snr": torch.minimum(kept, clipped),
            "min_snr_plus_one": clipped.clamp(max=1),
        }[weighting]

        # The noise's error is the velocity's times a, the clean latents' the velocity's times 1 - a.
        if self.prediction == "epsilon":
            return of_velocity / kept.clamp(min=LEAST)
        if self.prediction == "sample":
            return of_velocity / (1 - kept).clamp(min=LEAST)
        return of_velocity

    def loss(self, output: Tensor, clean: Tensor, drawn: "Draws", weighting: Weighting, limit: float) -> Tensor:
        """Return the mean weighted squared error, a scalar, of an output for clean latents, both [B, C, H, W]."""
        errors = (output - self.target(clean, drawn.noise, drawn.times)).square().mean(dim=(1, 2, 3))
        return (errors * self.weigh(drawn.times, weighting, limit)).mean()


@dataclass(frozen=True)
class Draws:
    """Randomness of one step: times int64 [B], the same for all neighbours of a group, and noise [B, C, H, W]."""

    times: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> "Draws":
        """Return the draws on a device."""
        return Draws(self.times.to(device), self.noise.to(device))


def draw_noise(shape: torch.Size, levels: int, group: int, draws: torch.Generator) -> Draws:
    """Draw noise of a shape [B, C, H, W], and its level among `levels`, one for each `group` of neighbours.

    The levels of a step are spread evenly from a random start, which steadies the loss.
    """
    # One level per group, in random order.
    count = shape[0] // group
    offsets = (torch.rand((), generator=draws) + torch.arange(count) / count) % 1
    times = (offsets[torch.randperm(count, generator=draws)] * levels).long().repeat_interleave(group)
    return Draws(times, torch.randn(shape, generator=draws))
