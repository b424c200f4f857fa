"""Adapt the common part of diffusers' pipelines to `ImageGenerator`: the network, the lock and the autoencoder.

Letters of shapes: B images, C channels, H and W latent rows and columns, S text tokens, D features.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import SampleSpec
from tailforge.tasks.methods.sampling.generator import Conditioning, Scheduler
from tailforge.tasks.models.text_readers import overlapping


class DiffusersGenerator(ABC):
    """An adapter of a loaded pipeline, with one subclass per kind of denoiser. The pipeline's settings stay unchanged.

    `stride`: the sides of an image are multiples of it, in pixels.
    """

    def __init__(self, pipeline: Any, denoiser: Any, stride: int) -> None:
        self.pipeline = pipeline
        self.lock = Lock()
        self.stride = stride
        self.denoiser: Any = denoiser
        self.device: torch.device = denoiser.device
        self.dtype: torch.dtype = denoiser.dtype
        # Engines need gradients of inputs, never of weights.
        for network in (denoiser, pipeline.vae):
            network.eval().requires_grad_(False)

    inpaints = False  # a network made for inpainting overrides it, see fill_generators.py

    @property
    def networks(self) -> list[nn.Module]:
        """Return all networks that are loaded: denoiser, autoencoder and text encoders."""
        return [part for part in self.pipeline.components.values() if isinstance(part, nn.Module)]

    @property
    @abstractmethod
    def default_size(self) -> tuple[int, int]:
        """Return the height and width of the model's training images, in pixels."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Return the number of latent channels."""

    @abstractmethod
    def make_scheduler(self, name: str, size: tuple[int, int] | None = None) -> Scheduler:
        """Return a fresh scheduler for images of this size (height, width). Errors: RecipeError."""

    @abstractmethod
    def encode_prompt(self, prompt: str) -> Conditioning:
        """Encode a prompt as one row: embeds [1, S, D]."""

    @abstractmethod
    def encode_negative(self, prompt: str) -> Conditioning | None:
        """Encode a negative prompt as one row [1, S, D]; None if guidance needs no second pass."""

    @abstractmethod
    def locate_tokens(self, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Return the token positions of each character span [start, end)."""

    @abstractmethod
    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        """Return the network's output [B, C, H, W] for scaled latents [B, C, H, W]."""

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Return latents [B, C, H, W] with noise up to a share of the schedule, and their timestep (scalar)."""

    @abstractmethod
    def latent_statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        """Return mean and standard deviation of the autoencoder's channels, one for all or one per channel.

        Latents of the denoiser are normalised with them.
        """

    def draw_controls(
        self, samples: Sequence[SampleSpec], size: tuple[int, int]
    ) -> tuple[Tensor | None, list[dict[str, Any]]]:
        """Return no images and empty records; a generator with a ControlNet returns images [B, 3, height, width]."""
        return None, [{} for _ in samples]

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (C, H, W) for an image of this size in pixels. Errors: RecipeError for a size off the stride."""
        for name, value in (("height", height), ("width", width)):
            if value % self.stride:
                raise RecipeError(
                    f"engine.{name} is {value}; this generator needs a multiple of {self.stride}, "
                    f"try {max(value // self.stride, 1) * self.stride}"
                )

        # An autoencoder reduces both sides by one factor.
        scale = self.pipeline.vae_scale_factor
        return self.channels, height // scale, width // scale

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, H, W] to images [B, 3, height, width] in -1..1, not clipped."""
        vae = self.pipeline.vae
        images: Tensor = vae.decode(self.unscale(latents.to(vae.dtype)), return_dict=False)[0]
        return images

    def unscale(self, latents: Tensor) -> Tensor:
        """Convert latents [B, C, H, W] of the denoiser to those of the autoencoder, in the same precision."""
        # Inverse of the normalisation in `encode`.
        mean, std = self._statistics_like(latents)
        unscaled: Tensor = latents * std / self.pipeline.vae.config.scaling_factor + mean
        return unscaled

    def prepare_fill(self, images: Tensor, masks: Tensor, generators: Sequence[torch.Generator]) -> Tensor | None:
        """Return None for images [B, 3, height, width]: the network reads latents alone."""
        return None

    def encode(self, images: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Encode images [B, 3, height, width] in -1..1 to latents [B, C, H, W] of the denoiser.

        They are the means of the autoencoder's posterior, or draws from it by `generators`, one per image.
        """
        # The mean of the posterior is without its noise.
        vae = self.pipeline.vae
        posterior = vae.encode(images.to(self.device, vae.dtype)).latent_dist
        found = posterior.sample(list(generators)) if generators else posterior.mean

        # Normalise the channels, then scale.
        mean, std = self._statistics_like(found)
        latents: Tensor = ((found - mean) / std * vae.config.scaling_factor).to(self.dtype)
        return latents

    def _statistics_like(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (latents.new_tensor(list(values)).view(1, -1, 1, 1) for values in self.latent_statistics())
        return mean, std


def find_tokens(tokenizer: Any, length: int, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the token positions of each character span in a text cut to `length` tokens; none for a lost span."""
    encoded = tokenizer(prompt, truncation=True, max_length=length, return_offsets_mapping=True)
    return overlapping(encoded["offset_mapping"], spans)
