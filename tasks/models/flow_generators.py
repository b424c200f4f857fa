"""Adapt Stable Diffusion 3 and Flux, transformers with joint attention to image and text on a flow's schedule.

Along the flow (Esser et al. 2024, arXiv 2403.03206, equation 13) a latent is z = (1 - s) z_0 + s e with s from 1 to 0.
The denoiser predicts e - z_0 at the timestep 1000 s. The calls are the same as in diffusers' pipelines, so images are
identical. Tests ran these networks with random weights only; see docs/explanation/generators.md.

Letters of shapes: B images, C channels, H and W latent rows and columns, S text tokens, D features.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, StableDiffusion3Pipeline
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.errors import RecipeError
from tailforge.tasks.methods.attention.joint_attention import FLUX_TIMESTEPS, join_positions
from tailforge.tasks.methods.sampling.generator import Conditioning, Scheduler
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator, find_tokens
from tailforge.tasks.models.text_readers import FLUX_TOKENS, SD3_TOKENS

PATCH = 2  # Flux packs 2 x 2 latents into a token
UNGUIDED = 1.0  # guidance scale that a distilled network reads if no guidance is set


class FlowScheduler(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """The flow's scheduler with the interface of samplers and the timesteps of the pipeline.

    `tokens`: of an image; with dynamic shifting, more tokens keep the noise high for longer. `even`: noise levels are
    equal steps from 1 before the shift, as in Flux; otherwise the configuration defines them.
    """

    init_noise_sigma = 1.0
    tokens: int
    even: bool

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor:
        """Return latents [B, C, H, W] unchanged: a flow's network reads them as they are."""
        return sample

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None:
        """Set the timesteps of a run, shifted by the number of tokens."""
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps) if self.even else None
        super().set_timesteps(num_inference_steps, device=device, sigmas=sigmas, mu=self._shift_by_tokens())

    def _shift_by_tokens(self) -> float:
        """Return the shift of the noise levels for `tokens`."""
        # Linear between the shifts of the smallest and the largest image in the model's configuration.
        config = self.config
        rise = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        shift: float = config.base_shift + rise * (self.tokens - config.base_image_seq_len)
        return shift


class FlowGenerator(DiffusersGenerator):
    """The common part of both generators: a transformer over patches of latents, and the flow."""

    even_levels: bool  # see FlowScheduler

    def __init__(self, pipeline: StableDiffusion3Pipeline | FluxPipeline, patch: int) -> None:
        super().__init__(pipeline, pipeline.transformer, patch * pipeline.vae_scale_factor)

    @property
    def default_size(self) -> tuple[int, int]:
        """Return the height and width of the model's training images, in pixels."""
        side = self.pipeline.default_sample_size * self.pipeline.vae_scale_factor
        return side, side

    def make_scheduler(self, name: str, size: tuple[int, int] | None = None) -> Scheduler:
        """Return a fresh flow scheduler for images of this size. Errors: RecipeError for a name other than "model"."""
        if name != "model":
            raise RecipeError(f"engine.scheduler is {name}; this generator needs its own scheduler: set it to model")

        # The shift of the noise levels depends on the image's tokens.
        height, width = size or self.default_size
        scheduler = FlowScheduler.from_config(self.pipeline.scheduler.config)
        scheduler.tokens = (height // self.stride) * (width // self.stride)
        scheduler.even = self.even_levels
        own: Scheduler = scheduler
        return own

    def add_noise(self, latents: Tensor, noise: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Return latents [B, C, H, W] with noise up to a share of the flow, 0..1, and their timestep (scalar)."""
        # z = (1 - s) z_0 + s e
        train_steps = self.pipeline.scheduler.config.num_train_timesteps
        return torch.lerp(latents, noise, share), torch.tensor(share * train_steps, device=latents.device)

    def latent_statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        """Return the autoencoder's shift as the mean, and 1 as the standard deviation."""
        return (self.pipeline.vae.config.shift_factor or 0.0,), (1.0,)


class StableDiffusion3Generator(FlowGenerator):
    """A StableDiffusion3Pipeline, with or without T5."""

    even_levels = False

    def __init__(self, pipeline: StableDiffusion3Pipeline) -> None:
        super().__init__(pipeline, pipeline.transformer.config.patch_size)

    @property
    def channels(self) -> int:
        """Return the number of latent channels."""
        count: int = self.denoiser.config.in_channels
        return count

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (C, H, W) for an image of this size in pixels. Errors: RecipeError for a size that is not possible."""
        # The network has a table of positions.
        most = self.denoiser.config.pos_embed_max_size * self.stride
        for name, value in (("height", height), ("width", width)):
            if value > most:
                raise RecipeError(f"engine.{name} is {value}; this generator makes sides up to {most}, try {most}")
        return super().latent_shape(height, width)

    def encode_prompt(self, prompt: str) -> Conditioning:
        """Encode a prompt as one row: embeds [1, S, D], pooled [1, D]."""
        embeds, _, pooled, _ = self._encode(prompt, None, guided=False)
        return Conditioning(embeds, pooled)

    def encode_negative(self, prompt: str) -> Conditioning:
        """Encode a negative prompt as one row; "" is the model's unconditional input."""
        _, embeds, _, pooled = self._encode("", prompt or None, guided=True)
        return Conditioning(embeds, pooled)

    def _encode(self, prompt: str, negative: str | None, guided: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        encoded: tuple[Tensor, Tensor, Tensor, Tensor] = self.pipeline.encode_prompt(
            prompt=prompt,
            prompt_2=None,
            prompt_3=None,
            device=self.device,
            do_classifier_free_guidance=guided,
            negative_prompt=negative,
            max_sequence_length=SD3_TOKENS,
        )
        return encoded

    def locate_tokens(self, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Return the token positions of each character span [start, end) in the joint text."""
        # The transformer reads CLIP's tokens, then T5's.
        pipeline, length = self.pipeline, self.pipeline.tokenizer_max_length
        clip = find_tokens(pipeline.tokenizer, length, prompt, spans)
        absent: list[list[int]] = [[] for _ in spans]
        t5 = find_tokens(pipeline.tokenizer_3, SD3_TOKENS, prompt, spans) if pipeline.text_encoder_3 else absent
        return join_positions([(length, clip), (SD3_TOKENS, t5)])

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        """Return the network's output [B, C, H, W] for latents [B, C, H, W]."""
        # The network cuts the latents into patches itself.
        output: Tensor = self.denoiser(
            hidden_states=latents,
            timestep=timestep.expand(len(latents)),
            encoder_hidden_states=text.embeds,
            pooled_projections=text.pooled,
            return_dict=False,
        )[0]
        return output


class FluxGenerator(FlowGenerator):
    """A FluxPipeline. T5 makes the text tokens, CLIP the pooled input.

    Flux-dev is distilled and reads the guidance scale. Flux-schnell has no guidance. Neither has an unconditional pass.
    """

    even_levels = True

    def __init__(self, pipeline: FluxPipeline) -> None:
        super().__init__(pipeline, PATCH)

    @property
    def channels(self) -> int:
        """Return the number of latent channels."""
        count: int = self.denoiser.config.in_channels // PATCH**2
        return count

    def encode_prompt(self, prompt: str) -> Conditioning:
        """Encode a prompt as one row: embeds [1, S, D], pooled [1, D]."""
        embeds, pooled, _ = self.pipeline.encode_prompt(
            prompt=prompt, prompt_2=None, device=self.device, max_sequence_length=FLUX_TOKENS
        )
        return Conditioning(embeds, pooled)

    def encode_negative(self, prompt: str) -> None:
        """Return None: guidance needs no second pass."""
        return None

    def locate_tokens(self, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Return the positions of T5's tokens for each character span [start, end)."""
        return find_tokens(self.pipeline.tokenizer_2, FLUX_TOKENS, prompt, spans)

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        """Return the network's output [B, C, H, W] for latents [B, C, H, W]."""
        # Pack 2 x 2 latents into a token: [B, H/2 * W/2, 4 C].
        packed = functional.pixel_unshuffle(latents, PATCH)
        whole = packed if text.fill is None else torch.cat([packed, functional.pixel_unshuffle(text.fill, PATCH)], 1)
        count, _, height, width = packed.shape
        scale = torch.full((count,), UNGUIDED if text.guidance is None else text.guidance, device=latents.device)

        # Timesteps are fractions, and rotary positions are those of the tokens.
        output: Tensor = self.denoiser(
            hidden_states=whole.flatten(2).transpose(1, 2).contiguous(),
            timestep=timestep.expand(count).to(latents.dtype) / FLUX_TIMESTEPS,
            guidance=scale if self.denoiser.config.guidance_embeds else None,
            encoder_hidden_states=text.embeds,
            pooled_projections=text.pooled,
            txt_ids=latents.new_zeros(text.embeds.shape[1], 3),
            img_ids=list_positions(height, width).to(latents),
            return_dict=False,
        )[0]
        return functional.pixel_shuffle(output.transpose(1, 2).reshape(packed.shape), PATCH)


def list_positions(height: int, width: int) -> Tensor:
    """Return 0, row and column of every token, row by row: [height * width, 3]."""
    return torch.cartesian_prod(torch.zeros(1), torch.arange(float(height)), torch.arange(float(width)))
