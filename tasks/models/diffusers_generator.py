"""What all pipelines of diffusers share as an `ImageGenerator`: the network, the lock, and the autoencoder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from tailforge.schemas.errors import RecipeError
from tailforge.tasks.methods.sampling.generator import Conditioning, Scheduler


class DiffusersGenerator(ABC):
    """Adapter over a loaded pipeline, which itself stays as it was loaded; one subclass for each kind of denoiser.

    `stride`: pixels that a side of an image must be a multiple of.
    """

    def __init__(self, pipeline: Any, denoiser: Any, stride: int) -> None:
        self.pipeline = pipeline
        self.lock = Lock()
        self.stride = stride
        self.denoiser: Any = denoiser
        self.device: torch.device = denoiser.device
        self.dtype: torch.dtype = denoiser.dtype
        for network in (denoiser, pipeline.vae):
            network.eval().requires_grad_(False)  # engines differentiate through them, never in their weights

    @property
    @abstractmethod
    def default_size(self) -> tuple[int, int]:
        """Height and width, in pixels, that the model was made for."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of the latents."""

    @abstractmethod
    def make_scheduler(self, name: str, size: tuple[int, int] | None = None) -> Scheduler: ...

    @abstractmethod
    def encode_prompt(self, prompt: str) -> Conditioning: ...

    @abstractmethod
    def encode_negative(self, prompt: str) -> Conditioning | None: ...

    @abstractmethod
    def locate_tokens(self, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]: ...

    @abstractmethod
    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor: ...

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, share: float) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def latent_statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation, of all or of each of the autoencoder's channels, that latents are freed of."""

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        for name, value in (("height", height), ("width", width)):
            if value % self.stride:
                raise RecipeError(
                    f"engine.{name} is {value}; this generator needs a multiple of {self.stride}, "
                    f"try {max(value // self.stride, 1) * self.stride}"
                )
        scale = self.pipeline.vae_scale_factor
        return self.channels, height // scale, width // scale

    def decode(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        images: Tensor = vae.decode(self.unscale(latents.to(vae.dtype)), return_dict=False)[0]
        return images

    def unscale(self, latents: Tensor) -> Tensor:
        """Latents as the autoencoder itself has them, in the precision that they come in."""
        mean, std = self._statistics_like(latents)
        unscaled: Tensor = latents * std / self.pipeline.vae.config.scaling_factor + mean
        return unscaled

    def encode(self, images: Tensor) -> Tensor:
        vae = self.pipeline.vae
        found = vae.encode(images.to(self.device, vae.dtype)).latent_dist.mean
        mean, std = self._statistics_like(found)
        latents: Tensor = ((found - mean) / std * vae.config.scaling_factor).to(self.dtype)
        return latents

    def _statistics_like(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (latents.new_tensor(list(values)).view(1, -1, 1, 1) for values in self.latent_statistics())
        return mean, std


def overlapping(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Positions of the tokens that share a character with each span; `offsets` are the tokens' own characters."""
    return [
        [position for position, (first, last) in enumerate(offsets) if max(first, start) < min(last, end)]
        for start, end in spans
    ]


def find_tokens(tokenizer: Any, length: int, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Token positions of each character span in a text cut to `length` tokens; empty where the span was cut off."""
    encoded = tokenizer(prompt, truncation=True, max_length=length, return_offsets_mapping=True)
    return overlapping(encoded["offset_mapping"], spans)
