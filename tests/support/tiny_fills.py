"""Tiny random pipelines made for inpainting: diffusers' own classes over networks with further input channels."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    FluxFillPipeline,
    FluxTransformer2DModel,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)

from tests.support.tiny_flows import build_flux
from tests.support.tiny_generators import build_sd, build_sdxl

UNET, FLUX = 4 + 1 + 4, 4 * (4 + 4 + 2 * 2)  # input channels, for latents of 4 channels and 2 x 2 pixels


def _unet(pipeline: Any) -> UNet2DConditionModel:
    torch.manual_seed(1)
    return UNet2DConditionModel.from_config(pipeline.unet.config, in_channels=UNET).eval()


def build_sd_fill() -> StableDiffusionInpaintPipeline:
    """The tiny Stable Diffusion with nine input channels."""
    parts = (pipeline := build_sd()).components | {"unet": _unet(pipeline), "image_encoder": None}
    return StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)


def build_sdxl_fill() -> StableDiffusionXLInpaintPipeline:
    """The tiny Stable Diffusion XL with nine input channels."""
    parts = (pipeline := build_sdxl()).components | {"unet": _unet(pipeline)}
    return StableDiffusionXLInpaintPipeline(**parts, add_watermarker=False)


def build_flux_fill() -> FluxFillPipeline:
    """The tiny Flux whose tokens hold latents, those of the masked image, and the pixels of the mask."""
    unused = ("image_encoder", "feature_extractor")
    parts = {name: part for name, part in build_flux().components.items() if name not in unused}
    torch.manual_seed(1)
    config = parts["transformer"].config
    parts["transformer"] = FluxTransformer2DModel.from_config(config, in_channels=FLUX, out_channels=16).eval()
    return FluxFillPipeline(**parts)


FILLS: dict[str, Callable[[], Any]] = {"sd": build_sd_fill, "sdxl": build_sdxl_fill, "flux": build_flux_fill}
