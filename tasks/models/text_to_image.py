"""Stable Diffusion and Stable Diffusion XL pipelines of diffusers as the `ImageGenerator` that methods speak.

Weights load from safetensors only, remote code is never trusted, no safety checker is loaded (it would paint images
black unseen). float32 on a CPU, float16 on CUDA.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UniPCMultistepScheduler,
)
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from schemas.errors import ModelError, RecipeError
from schemas.jobs import ResolvedModel
from tasks.methods.generator import Conditioning, Scheduler
from tasks.models.cache import load_once
from tasks.models.generator_files import check_class, check_generator, generator_folder, weights_variant
from tasks.models.pretrained import pick_device

SCHEDULERS: dict[str, type[Any]] = {
    "ddim": DDIMScheduler,
    "dpmsolver++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "unipc": UniPCMultistepScheduler,
}
CLIPPING: dict[str, dict[str, bool]] = {"ddim": {"clip_sample": False}}
PIPELINES: dict[str, type[Any]] = {
    "StableDiffusionPipeline": StableDiffusionPipeline,
    "StableDiffusionXLPipeline": StableDiffusionXLPipeline,
}
LEFT_OUT: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {"safety_checker": None, "requires_safety_checker": False},
    "StableDiffusionXLPipeline": {"add_watermarker": False},
}


class DiffusersGenerator:
    """Adapter over a loaded pipeline; `pipeline` itself stays as it was loaded."""

    def __init__(self, pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline) -> None:
        self.pipeline = pipeline
        self.lock = Lock()
        self.is_xl = isinstance(pipeline, StableDiffusionXLPipeline)
        self.denoiser: nn.Module = pipeline.unet
        self.device: torch.device = pipeline.unet.device
        self.dtype: torch.dtype = pipeline.unet.dtype
        for network in (pipeline.unet, pipeline.vae):
            network.eval().requires_grad_(False)  # engines differentiate through them, never in their weights

    @property
    def default_size(self) -> tuple[int, int]:
        size, scale = self.pipeline.unet.config.sample_size, self.pipeline.vae_scale_factor
        height, width = (size, size) if isinstance(size, int) else size
        return height * scale, width * scale

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        scale = self.pipeline.vae_scale_factor
        for name, value in (("height", height), ("width", width)):
            if value % scale:
                raise RecipeError(
                    f"engine.{name} is {value}; this generator needs a multiple of {scale}, "
                    f"try {max(value // scale, 1) * scale}"
                )
        return self.pipeline.unet.config.in_channels, height // scale, width // scale

    def make_scheduler(self, name: str) -> Scheduler:
        saved = self.pipeline.scheduler
        kind = type(saved) if name == "model" else SCHEDULERS[name]
        # Latents are not bounded by 1. A configuration saved by a scheduler that does not clip says nothing of it, and
        # DDIM would clip by default; one that says True is corrected by the pipeline when it loads.
        options = {} if name == "model" or "clip_sample" in saved.config else CLIPPING.get(name, {})
        scheduler: Scheduler = kind.from_config(saved.config, **options)
        return scheduler

    def encode_prompt(self, prompt: str) -> Conditioning:
        encoded = self.pipeline.encode_prompt(
            prompt=prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditioning(encoded[0], encoded[2] if self.is_xl else None)

    def encode_negative(self, prompt: str) -> Conditioning:
        # None, not "": an XL pipeline may have been trained with zeros as its unconditional input.
        encoded = self.pipeline.encode_prompt(
            prompt="",
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=prompt or None,
        )
        return Conditioning(encoded[1], encoded[3] if self.is_xl else None)

    def locate_tokens(self, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        tokenizer = self.pipeline.tokenizer or self.pipeline.tokenizer_2
        offsets = tokenizer(
            prompt, truncation=True, max_length=tokenizer.model_max_length, return_offsets_mapping=True
        )["offset_mapping"]
        return [
            [position for position, (first, last) in enumerate(offsets) if max(first, start) < min(last, end)]
            for start, end in spans
        ]

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        added = None if text.pooled is None else {"text_embeds": text.pooled, "time_ids": self._time_ids(latents, text)}
        output: Tensor = self.pipeline.unet(
            latents, timestep, encoder_hidden_states=text.embeds, added_cond_kwargs=added, return_dict=False
        )[0]
        return output

    def _time_ids(self, latents: Tensor, text: Conditioning) -> Tensor:
        """XL's size conditioning: original size, crop and target size, all of the image as it is made."""
        height, width = (side * self.pipeline.vae_scale_factor for side in latents.shape[-2:])
        row = [height, width, 0, 0, height, width]
        return torch.tensor([row], dtype=text.embeds.dtype, device=latents.device).expand(len(latents), -1)

    def decode(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = latents.to(vae.dtype)
        mean, std = self._latent_statistics(latents)
        images: Tensor = vae.decode(latents * std / vae.config.scaling_factor + mean, return_dict=False)[0]
        return images

    def encode(self, images: Tensor) -> Tensor:
        vae = self.pipeline.vae
        found = vae.encode(images.to(self.device, vae.dtype)).latent_dist.mean
        mean, std = self._latent_statistics(found)
        latents: Tensor = ((found - mean) / std * vae.config.scaling_factor).to(self.dtype)
        return latents

    def _latent_statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation that some XL models normalise latents by; 0 and 1 for the others."""
        config = self.pipeline.vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if not self.is_xl or mean is None or std is None:
            mean, std = (0.0,), (1.0,)
        return like.new_tensor(mean).view(1, -1, 1, 1), like.new_tensor(std).view(1, -1, 1, 1)


def load_generator(model: ResolvedModel) -> DiffusersGenerator:
    """The generator, loaded once a process. Errors: ModelError."""
    device = pick_device()
    return load_once(("generator", model.digest, str(device)), lambda: _load(model, device))


def _load(model: ResolvedModel, device: torch.device) -> DiffusersGenerator:
    check_generator(model)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    folder = generator_folder(model)
    where = model.path if folder is None else str(folder)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    try:
        config = DiffusionPipeline.load_config(where, revision=model.revision)
        pipeline = PIPELINES[check_class(config.get("_class_name"), where)].from_pretrained(
            where,
            revision=model.revision,
            variant=weights_variant(folder) if folder else None,
            dtype=dtype,
            use_safetensors=True,
            **LEFT_OUT[config["_class_name"]],
        )
    except ModelError:
        raise
    except Exception as error:  # diffusers, transformers, safetensors and the hub each raise their own kinds
        raise ModelError(
            f"generator {where} cannot be loaded: {type(error).__name__}: {error}; copy or download the model again"
        ) from error
    pipeline.to(device)
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)  # 8 % less time a step on one CPU core
    if isinstance(pipeline, StableDiffusionXLPipeline) and pipeline.vae.config.force_upcast:
        pipeline.vae.to(torch.float32)  # its activations overflow float16
    return DiffusersGenerator(pipeline)
