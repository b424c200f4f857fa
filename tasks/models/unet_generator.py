"""Adapt Stable Diffusion 1, 2 and XL, UNets with cross-attention to the text on a diffusion schedule.

Sources: latent diffusion (arXiv 2112.10752) and SDXL (arXiv 2307.01952). Letters of shapes: B images, C channels, H
and W latent rows and columns, S text tokens, D features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from tailforge.tasks.methods.sampling.generator import Conditioning, Scheduler
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator, find_tokens
from tailforge.tasks.models.schedulers import build_scheduler


class UNetGenerator(DiffusersGenerator):
    """A StableDiffusionPipeline or a StableDiffusionXLPipeline."""

    def __init__(self, pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline) -> None:
        super().__init__(pipeline, pipeline.unet, pipeline.vae_scale_factor)
        self.is_xl = "StableDiffusionXL" in type(pipeline).__name__

        # Activations of the first XL autoencoder overflow float16. The pipeline decodes in float32 then.
        if self.is_xl and pipeline.vae.config.force_upcast and pipeline.vae.dtype == torch.float16:
            pipeline.vae.to(torch.float32)

    @property
    def default_size(self) -> tuple[int, int]:
        """Return the height and width of the model's training images, in pixels."""
        size, scale = self.denoiser.config.sample_size, self.pipeline.vae_scale_factor
        height, width = (size, size) if isinstance(size, int) else size
        return height * scale, width * scale

    @property
    def channels(self) -> int:
        """Return the number of latent channels."""
        count: int = self.denoiser.config.in_channels
        return count

    def make_scheduler(self, name: str, size: tuple[int, int] | None = None) -> Scheduler:
        """Return a fresh scheduler; "model" names the one saved with the model. The size does not matter."""
        saved = self.pipeline.scheduler
        return build_scheduler(name, type(saved).__name__, saved.config)

    def encode_prompt(self, prompt: str) -> Conditioning:
        """Encode a prompt as one row: embeds [1, S, D], and pooled [1, D] for XL."""
        encoded = self.pipeline.encode_prompt(
            prompt=prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditioning(encoded[0], encoded[2] if self.is_xl else None)

    def encode_negative(self, prompt: str) -> Conditioning:
        """Encode a negative prompt as one row; "" is the model's unconditional input."""
        # Some XL pipelines have zeros as their unconditional input, which None selects.
        encoded = self.pipeline.encode_prompt(
            prompt="",
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=prompt or None,
        )
        return Conditioning(encoded[1], encoded[3] if self.is_xl else None)

    def locate_tokens(self, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Return the token positions of each character span [start, end); none for a span that was cut off."""
        tokenizer = self.pipeline.tokenizer or self.pipeline.tokenizer_2
        return find_tokens(tokenizer, tokenizer.model_max_length, prompt, spans)

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        """Return the network's output [B, C, H, W] for scaled latents [B, C, H, W]."""
        added = None if text.pooled is None else {"text_embeds": text.pooled, "time_ids": self.time_ids(latents, text)}
        output: Tensor = self.pipeline.unet(
            latents if text.fill is None else torch.cat([latents, text.fill], 1),
            timestep,
            encoder_hidden_states=text.embeds,
            added_cond_kwargs=added,
            return_dict=False,
            **self.steer(latents, timestep, text, added),
        )[0]
        return output

    def steer(self, latents: Tensor, timestep: Any, text: Conditioning, added: Mapping[str, Tensor] | None) -> Any:
        """Return further arguments of the UNet for scaled latents [B, C, H, W]; none without a ControlNet."""
        return {}

    def time_ids(self, latents: Tensor, text: Conditioning) -> Tensor:
        """Return XL's size conditioning [B, 6] for latents [B, C, H, W], in pixels."""
        # Original size, crop and target size: the image is uncropped, at its own size.
        height, width = (side * self.pipeline.vae_scale_factor for side in latents.shape[-2:])
        row = [height, width, 0, 0, height, width]
        return torch.tensor([row], dtype=text.embeds.dtype, device=latents.device).expand(len(latents), -1)

    def add_noise(self, latents: Tensor, noise: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Return latents [B, C, H, W] with noise up to a share of the schedule, 0..1, and their timestep (scalar)."""
        scheduler: Any = self.make_scheduler("ddim")
        count = scheduler.config.num_train_timesteps
        step = torch.tensor(min(int(share * count), count - 1), device=latents.device)
        return scheduler.add_noise(latents, noise, step[None]), step

    def latent_statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        """Return the autoencoder's mean and standard deviation, which some XL models have; 0 and 1 for the others."""
        config = self.pipeline.vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        return ((0.0,), (1.0,)) if not self.is_xl or mean is None or std is None else (mean, std)
