"""What the methods ask of a text-to-image model: a small protocol, so that no method knows diffusers.

Letters of shapes: B images, C channels, H and W latent rows and columns, S text tokens, D features.
Nothing here switches gradients off: the caller decides, because later engines differentiate through these calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Conditioning:
    """Text as the denoiser reads it: embeds [B, S, D], and pooled [B, D] where the model has a second text input.

    `guidance`: the scale that is asked for, which only a network reads that was distilled to it.
    """

    embeds: Tensor
    pooled: Tensor | None = None
    guidance: float | None = None

    def expand(self, count: int) -> "Conditioning":
        """The one row of this conditioning, `count` times."""
        pooled = None if self.pooled is None else self.pooled.expand(count, -1)
        return Conditioning(self.embeds.expand(count, -1, -1), pooled)


def join_conditionings(parts: Sequence[Conditioning]) -> Conditioning:
    """Rows of all parts, in order."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Conditioning(torch.cat([part.embeds for part in parts]), torch.cat(pooled) if pooled else None)


class Scheduler(Protocol):
    """The part of a diffusers scheduler that sampling uses. It holds the state of one run: make one a batch."""

    config: Any
    timesteps: Tensor
    init_noise_sigma: Any

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None: ...

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor: ...

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> Any: ...


class ImageGenerator(Protocol):
    """A text-to-image latent diffusion model."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype:
        """Of latents and text embeddings."""

    @property
    def denoiser(self) -> nn.Module:
        """The network whose attention to words can be captured."""

    @property
    def lock(self) -> Lock:
        """Held while a batch is made: capture hangs hooks on the shared network."""

    @property
    def default_size(self) -> tuple[int, int]:
        """Height and width, in pixels, that the model was made for."""

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W) for an image's size in pixels. Errors: RecipeError for a size that the model cannot make."""

    def make_scheduler(self, name: str, size: tuple[int, int] | None = None) -> Scheduler:
        """A fresh scheduler; "model" is the one saved with the model. The kind of prediction is the model's.

        `size`: height and width of the images in pixels, by default the model's own: a flow's timesteps depend on it.
        Errors: RecipeError for a scheduler that the model cannot be sampled with.
        """

    def encode_prompt(self, prompt: str) -> Conditioning:
        """One row. A prompt longer than the text encoder reads is cut."""

    def encode_negative(self, prompt: str) -> Conditioning | None:
        """One row that guidance points away from; "" gives the model's own unconditional input.

        None where a second, unconditional pass makes no sense, for the network was distilled to do without.
        """

    def locate_tokens(self, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Positions of each character span [start, end) in the text that the denoiser reads; empty if it was cut off.

        Where several encoders read the prompt, a span has tokens of each.
        """

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        """The network's output [B, C, H, W] for scaled latents."""

    def add_noise(self, latents: Tensor, noise: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Latents as they are at that share of the noise schedule, 0..1, and the timestep that stands there."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, height, width], -1 to 1 but not clipped."""

    def encode(self, images: Tensor) -> Tensor:
        """Mean latents [B, C, H, W], scaled as `decode` reads them, of images [B, 3, height, width] in -1..1."""
