"""Denoise a pass of images, and measure how well a network does it.

Letters of shapes: B images of a pass, C channels, H and W latent rows and columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tailforge.tasks.methods.generator_training.batches import Examples
from tailforge.tasks.methods.generator_training.devices import Devices
from tailforge.tasks.methods.generator_training.noise import Draws, NoiseSchedule, draw_noise
from tailforge.tasks.methods.generator_training.plan import Plan
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.training_loop import torch_draws

CHECK_SEED = 7919  # of the noise that held-out images are measured with
CHECK_ROWS = 64
CHECK_DRAWS = 4

Denoise = Callable[[Tensor, Tensor, Conditioning], Tensor]  # noisy latents, times and text to the network's output
Embed = Callable[[Sequence[str]], Conditioning]


@dataclass(frozen=True)
class Network:
    """A denoiser as training sees it.

    `schedule`: the noise levels that it learns. `last`: the weights on which gradients are compared. `source`: the
    model before training, where relations are taken from it.
    """

    module: nn.Module
    denoise: Denoise
    embed: Embed
    schedule: NoiseSchedule
    last: nn.Parameter
    source: Denoise | None = None


@dataclass(frozen=True)
class Denoised:
    """A pass on its device: clean and noisy latents and the network's output, all [B, C, H, W], and their noise."""

    clean: Tensor
    noisy: Tensor
    output: Tensor
    draws: Draws


def denoise(network: Network, clean: Tensor, draws: Draws, text: Conditioning, devices: Devices) -> Denoised:
    """Add noise to clean latents [B, C, H, W] of any device, then run the network on them."""
    # x_t at the drawn noise levels.
    clean, draws = clean.to(devices.device), draws.to(devices.device)
    noisy = network.schedule.add_noise(clean, draws.noise, draws.times).contiguous(memory_format=torch.channels_last)

    # The output is read in float32 whatever the precision of the pass.
    with devices.autocast():
        output = network.denoise(noisy, draws.times, text).float()
    return Denoised(clean, noisy, output, draws)


def denoising_loss(network: Network, made: Denoised, plan: Plan) -> Tensor:
    """Return the mean weighted squared error of the network's output, a scalar."""
    return network.schedule.loss(made.output, made.clean, made.draws, plan.weighting, plan.snr_limit)


@torch.no_grad()
def measure_error(network: Network, examples: Examples, plan: Plan, devices: Devices) -> float:
    """Return the denoising loss on the first CHECK_ROWS examples, at the same CHECK_DRAWS draws of noise each time."""
    clean, captions = examples.take(slice(0, CHECK_ROWS))
    text = network.embed(captions)

    # The seed of the noise is fixed, so errors of two steps of a training can be compared.
    errors = []
    for number in range(CHECK_DRAWS):
        draws = draw_noise(clean.shape, len(network.schedule.signal), 1, torch_draws(CHECK_SEED, number))
        errors.append(denoising_loss(network, denoise(network, clean, draws, text, devices), plan))
    return float(torch.stack(errors).mean())
