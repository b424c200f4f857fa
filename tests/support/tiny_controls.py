"""Tiny random ControlNets for the tiny pipelines, and the images that they read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image

from tailforge.schemas.jobs import ResolvedControl


def build_control(pipeline: Any, seed: int = 3) -> ControlNetModel:
    """A ControlNet for a pipeline of 2 pixels per latent, all of whose layers are random: it changes images."""
    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(
        pipeline.unet, conditioning_embedding_out_channels=(16, 32), load_weights_from_unet=False
    )
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "controlnet" in name:  # zero in a new ControlNet
                weight.add_(0.1 * torch.randn_like(weight))
    return network.eval()


def save_images(folder: Path, count: int = 3, side: int = 32) -> Path:
    """Photographs of bright rectangles on dark ground, each another one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.full((side, side, 3), 30, np.uint8)
        pixels[4 + 2 * number : 20 + number, 6 : 14 + 4 * number] = (220, 180 - 30 * number, 90)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def locate(network: Path, images: Path, kind: str, scale: float = 1.0, names: Sequence[str] = ()) -> ResolvedControl:
    """A ControlNet with its images as a build finds them."""
    found = names or sorted(file.name for file in images.iterdir())
    files = tuple((name, "0" * 64) for name in found)
    return ResolvedControl(
        path=str(network), digest="c" * 64, kind=kind, scale=scale, fit="crop", folder=str(images), images=files
    )
