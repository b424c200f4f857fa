"""The protocol of a text-to-image model. Methods use it, so no method imports a diffusers pipeline.

Letters of shapes: B images, C channels, H and W latent rows and columns, S text tokens, D features.
Nothing here switches gradients off. The caller decides, because some engines differentiate through these calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tailforge.schemas.jobs import SampleSpec


@dataclass(frozen=True)
class Conditioning:
    """Text as the denoiser reads it: embeds [B, S, D], and pooled [B, D] if the model has a second text input.

    `guidance`: the guidance scale. Only a network distilled to guidance reads it. `control`: images [B, 3, height,
    width] in 0..1 for a ControlNet. `fill`: further input channels [B, C', H, W] of a network made for inpainting.
    """

    embeds: Tensor
    pooled: Tensor | None = None
    guidance: float | None = None
    control: Tensor | None = None
    fill: Tensor | None = None

    def expand(self, count: int) -> "Conditioning":
        """Repeat the single row of this conditioning `count` times: embeds [count, S, D], pooled [count, D]."""
        pooled = None if self.pooled is None else self.pooled.expand(count, -1)
        return Conditioning(self.embeds.expand(count, -1, -1), pooled)


def join_conditionings(parts: Sequence[Conditioning]) -> Conditioning:
    """Return the rows of all parts in order: embeds [sum of B, S, D]."""
    # Parts are of one kind: each input is in all of them or in none.
    pooled = [part.pooled for part in parts if part.pooled is not None]
    control = [part.control for part in parts if part.control is not None]
    fill = [part.fill for part in parts if part.fill is not None]
    return Conditioning(
        torch.cat([part.embeds for part in parts]),
        torch.cat(pooled) if pooled else None,
        control=torch.cat(control) if control else None,
        fill=torch.cat(fill) if fill else None,
    )


class Scheduler(Protocol):
    """The part of a diffusers scheduler that sampling uses. It holds the state of one run: make one per batch."""

    config: Any
    timesteps: Tensor
    init_noise_sigma: Any

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None:
        """Set the timesteps of a run."""

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor:
        """Scale latents [B, C, H, W] as the network reads them at a timestep."""

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> Any:
        """Return the latents [B, C, H, W] after one step, from the network output for the latents before it."""


class ImageGenerator(Protocol):
    """A text-to-image latent diffusion model."""

    @property
    def device(self) -> torch.device:
        """Return the device of the networks."""

    @property
    def dtype(self) -> torch.dtype:
        """Number type of latents and text embeddings."""

    @property
    def denoiser(self) -> nn.Module:
        """Return the network whose attention to words a capture can record."""

    @property
    def lock(self) -> Lock:
        """Return the lock of the shared network. A batch holds it, because a capture hangs hooks on the network."""

    @property
    def default_size(self) -> tuple[int, int]:
        """Return the height and width of the model's training images, in pixels."""

    @property
    def inpaints(self) -> bool:
        """Return whether the network was made for inpainting and reads `prepare_fill` beside the latents."""

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (C, H, W) for an image of this size in pixels.

        Errors: RecipeError if the model cannot make this size.
        """

    def make_scheduler(self, name: str, size: tuple[int, int] | None = None) -> Scheduler:
        """Return a fresh scheduler; "model" names the one saved with the model. The model sets the kind of prediction.

        `size`: height and width of the images in pixels, by default the model's own. A flow's timesteps depend on it.
        Errors: RecipeError if the scheduler does not fit the model.
        """

    def draw_controls(
        self, samples: Sequence[SampleSpec], size: tuple[int, int]
    ) -> tuple[Tensor | None, list[dict[str, Any]]]:
        """Return the images that a ControlNet reads, [B, 3, height, width] in 0..1, and a record for each sample.

        Without a ControlNet there are no images, and records are empty. Errors: ModelError for a lost image.
        """

    def encode_prompt(self, prompt: str) -> Conditioning:
        """Encode a prompt as one row. The text encoder cuts a longer prompt."""

    def encode_negative(self, prompt: str) -> Conditioning | None:
        """Encode the prompt that guidance points away from as one row; "" gives the model's unconditional input.

        Return None if the network was distilled to guidance: it needs no second, unconditional pass.
        """

    def locate_tokens(self, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Return the token positions of each character span [start, end); none if the text encoder cut the span off.

        If several encoders read the prompt, a span has tokens of each.
        """

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        """Return the network's output [B, C, H, W] for scaled latents [B, C, H, W]."""

    def add_noise(self, latents: Tensor, noise: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Add noise up to a share of the noise schedule, 0..1, to latents [B, C, H, W].

        Return the noisy latents [B, C, H, W] and their timestep.
        """

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, H, W] to images [B, 3, height, width] in -1..1, not clipped."""

    def encode(self, images: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Encode images [B, 3, height, width] in -1..1 to latents [B, C, H, W], scaled as `decode` reads them.

        The latents are the means of the autoencoder's posterior, or draws from it by `generators`, one per image.
        """

    def prepare_fill(self, images: Tensor, masks: Tensor, generators: Sequence[torch.Generator]) -> Tensor | None:
        """Return further input channels [B, C', H, W] of a network made for inpainting; None for another network.

        `images` [B, 3, height, width] in -1..1; `masks` [B, 1, height, width]: 1 where to draw, else 0. `generators`,
        one per image, draw from the autoencoder's posterior.
        """
