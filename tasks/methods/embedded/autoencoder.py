"""Train the embedded generator's autoencoder: 64 x 64 pixels to 16 x 16 x 4 latents and back (Rombach et al. 2022).

It is convolutional, so random crops train it as well as whole images, at a quarter of the cost.
Letters of shapes: N images, B of a batch, H and W pixel rows and columns, C latent channels, h and w latent rows and
columns.
"""

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.training.embedded import AutoencoderSettings
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.training_loop import (
    Learner,
    Observe,
    Saved,
    learn_steps,
    numpy_draws,
    torch_draws,
    warm_up_then_cosine,
)

VERSION = "autoencoder.1"
L1_WEIGHT = 0.25  # beside the squared error, against blur
KL_WEIGHT = 1e-6  # only keeps the latents from growing without bound
ENCODE_BATCH = 128


def build_autoencoder(settings: AutoencoderSettings, size_px: int, seed: int) -> AutoencoderKL:
    """Build an untrained autoencoder with a latent side of `size_px` / 4."""
    torch.manual_seed(seed)
    levels = len(settings.channels)

    # Each of the three levels but the last halves the side. Without attention in the middle, all is convolutional.
    model = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(settings.channels),
        layers_per_block=1,
        latent_channels=settings.latent_channels,
        norm_num_groups=16,
        sample_size=size_px,
        mid_block_add_attention=False,
    )
    return model.to(memory_format=torch.channels_last)


def train_autoencoder(
    images: NDArray[np.uint8],
    settings: AutoencoderSettings,
    seed: int,
    saved: Saved,
    observe: Observe,
) -> AutoencoderKL:
    """Train on random crops of images [N, H, W, 3]; return the averaged weights, frozen, with `scaling_factor` set.

    The scaling factor is 1 / (standard deviation of the latents), so that the diffusion sees unit variance. `saved`:
    a state to resume from. Errors: TrainingError.
    """
    model = build_autoencoder(settings, images.shape[1], seed)
    learner = Learner({"autoencoder": model}, settings.ema_decay)

    # Each step reconstructs fresh random crops.
    def loss_at(step: int) -> Tensor:
        crops = _draw_crops(images, settings, numpy_draws(seed, step))
        return reconstruction_loss(model, to_tensor(crops), torch_draws(seed, step))

    # The rate rises over the first fiftieth of the steps.
    rate = warm_up_then_cosine(settings.learning_rate, settings.steps, settings.steps // 50)
    learn_steps(learner, settings.steps, loss_at, rate, saved, observe)

    # The averaged weights are the result.
    learner.load_average()
    model.eval().requires_grad_(False)

    # Measure the latents' spread on images of a draw that no step used.
    some = images[np.sort(numpy_draws(seed, settings.steps).integers(len(images), size=1024))]
    model.register_to_config(scaling_factor=round(1.0 / float(encode_images(model, some).std()), 5))
    return model


def reconstruction_loss(model: AutoencoderKL, pixels: Tensor, draws: torch.Generator) -> Tensor:
    """Return the error of the reconstruction of pixels [B, 3, H, W] in [-1, 1], a scalar, plus a very small KL term."""
    # Encode with the noise of a variational autoencoder, then decode.
    posterior = model.encode(pixels).latent_dist
    latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=draws)
    decoded = model.decode(latents).sample

    # The squared error alone would blur.
    error = F.mse_loss(decoded, pixels) + L1_WEIGHT * F.l1_loss(decoded, pixels)
    loss: Tensor = error + KL_WEIGHT * posterior.kl().mean()
    return loss


@torch.no_grad()
def encode_images(model: AutoencoderKL, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the latent means of images [N, H, W, 3], [N, C, h, w], before the scaling factor."""
    # The means alone, in parts that fit into memory.
    parts = [
        model.encode(to_tensor(images[first : first + ENCODE_BATCH])).latent_dist.mean.contiguous().numpy()
        for first in range(0, len(images), ENCODE_BATCH)
    ]
    return np.concatenate(parts)


@torch.no_grad()
def measure_psnr(model: AutoencoderKL, images: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB with which images [N, H, W, 3] are reconstructed.

    The mean squared error is taken over all images together.
    """
    # Pixels are in [-1, 1]; half the difference is in the unit of [0, 1].
    total = 0.0
    for first in range(0, len(images), ENCODE_BATCH):
        pixels = to_tensor(images[first : first + ENCODE_BATCH])
        decoded = model.decode(model.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
        total += float(((decoded - pixels) / 2).square().mean()) * len(pixels)
    return float(-10 * np.log10(total / len(images)))


def _draw_crops(
    images: NDArray[np.uint8], settings: AutoencoderSettings, draws: np.random.Generator
) -> NDArray[np.uint8]:
    """Return random crops [B, crop_px, crop_px, 3] of images [N, H, W, 3]."""
    side = settings.crop_px

    # Any image, any place; the same image may come twice.
    rows = draws.integers(len(images), size=settings.batch)
    corners = draws.integers(images.shape[1] - side + 1, size=(settings.batch, 2))
    return np.stack([images[row, y : y + side, x : x + side] for row, (y, x) in zip(rows, corners, strict=True)])
