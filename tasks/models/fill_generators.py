"""Adapt networks made for inpainting: Stable Diffusion and XL with nine input channels, and Flux Fill.

Beside the latents they read the mask and the latents of the image with the masked part in grey. The conditioning is
that of diffusers' pipelines: the same resizing of the mask, and latents drawn from the autoencoder's posterior. Tests
ran these networks with random weights only.

Letters of shapes: B images, C channels, H and W latent rows and columns; s pixels per latent.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.errors import ModelError
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tailforge.tasks.models.flow_generators import FluxGenerator
from tailforge.tasks.models.unet_generator import UNetGenerator


class FillGenerator(DiffusersGenerator):
    """What all networks made for inpainting have in common."""

    inpaints = True

    @property
    def channels(self) -> int:
        """Return the number of latent channels, without those of mask and masked image."""
        count: int = self.pipeline.vae.config.latent_channels
        return count


class FillUNetGenerator(FillGenerator, UNetGenerator):
    """A StableDiffusionInpaintPipeline or a StableDiffusionXLInpaintPipeline."""

    def prepare_fill(self, images: Tensor, masks: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return the mask and the masked image's latents [B, 1 + C, H, W]; see `ImageGenerator`."""
        # Of each s x s pixels of the mask the first counts, as in the pipelines.
        latents = self.encode(images * (masks < 0.5), generators)
        small = functional.interpolate(masks, latents.shape[2:])
        return torch.cat([small.to(latents), latents], 1)

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        """Return the network's output [B, C, H, W] for scaled latents [B, C, H, W]. Errors: ModelError."""
        return super().denoise(latents, timestep, require_fill(text))


class FluxFillGenerator(FillGenerator, FluxGenerator):
    """A FluxFillPipeline."""

    def prepare_fill(self, images: Tensor, masks: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return the masked image's latents and the mask [B, C + s s, H, W]; see `ImageGenerator`."""
        # Every pixel of the mask is a channel.
        latents = self.encode(images * (1 - masks), generators)
        pixels = functional.pixel_unshuffle(masks, self.pipeline.vae_scale_factor)
        return torch.cat([latents, pixels.to(latents)], 1)

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        """Return the network's output [B, C, H, W] for latents [B, C, H, W]. Errors: ModelError."""
        return super().denoise(latents, timestep, require_fill(text))


def require_fill(text: Conditioning) -> Conditioning:
    """Return a conditioning with further input channels. Errors: ModelError for one without."""
    if text.fill is None:
        raise ModelError("the generator is made for inpainting and draws into photographs alone; use engine inpaint")
    return text
