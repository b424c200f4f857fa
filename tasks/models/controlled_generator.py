"""Adapt Stable Diffusion 1, 2 and XL with a ControlNet (Zhang et al. 2023, arXiv 2302.05543).

A ControlNet is a copy of the UNet's first half that reads an image beside the latents. Its outputs are added to those
of the UNet's blocks. As in diffusers' pipelines it runs in both halves of guidance, at every step.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedControl, ResolvedModel, SampleSpec
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.models.control_images import ControlImages, find_edges
from tailforge.tasks.models.generator_files import (
    DIFFUSION,
    FLOWS,
    HALF,
    INDEX,
    check_safetensors,
    generator_folder,
    read_json,
    weight_files,
)
from tailforge.tasks.models.unet_generator import UNetGenerator

CONTROL = "generator.control"
# Keys of both configurations that must be equal, with the defaults of diffusers and names for errors.
SHARED: Mapping[str, tuple[object, str]] = {
    "cross_attention_dim": (1280, "size of the text's features"),
    "in_channels": (4, "number of latent channels"),
    "addition_embed_type": (None, "second input of text"),
    "block_out_channels": ((320, 640, 1280, 1280), "channels of the blocks"),
    "layers_per_block": (2, "layers per block"),
}


class ControlledGenerator(UNetGenerator):
    """A pipeline with a UNet and its ControlNet. Conditionings without an image are denoised without it."""

    def __init__(self, pipeline: Any, network: ControlNetModel, control: ControlImages, scale: float) -> None:
        super().__init__(pipeline)
        self.network = network.eval().requires_grad_(False)
        self.control = control
        self.scale = scale

    @property
    def networks(self) -> list[nn.Module]:
        """Return the networks of the pipeline, and the ControlNet."""
        return [*super().networks, self.network]

    def draw_controls(
        self, samples: Sequence[SampleSpec], size: tuple[int, int]
    ) -> tuple[Tensor | None, list[dict[str, Any]]]:
        """Return the images of samples, [B, 3, height, width] in 0..1, and a record of each. Errors: ModelError."""
        images, records = self.control.draw(samples, size)
        return images.to(self.device, self.dtype), records

    def steer(self, latents: Tensor, timestep: Any, text: Conditioning, added: Mapping[str, Tensor] | None) -> Any:
        """Return the ControlNet's outputs for scaled latents [B, C, H, W], as arguments of the UNet."""
        if text.control is None:
            return {}
        down, middle = self.network(
            latents,
            timestep,
            encoder_hidden_states=text.embeds,
            controlnet_cond=text.control,
            conditioning_scale=self.scale,
            added_cond_kwargs=added,
            return_dict=False,
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def check_control(generator: ResolvedModel) -> None:
    """Check that a ControlNet fits a generator, from their files. Models of the hub are compared when they load.

    Errors: ModelError for missing or damaged files; RecipeError for a pair that does not fit; MissingExtraError.
    """
    control, folder = generator.control, generator_folder(generator)
    if control is None:
        return
    if control.kind == "edges":
        find_edges(np.zeros((8, 8, 3), np.uint8))  # OpenCV is there
    if folder is not None:
        _require_unet(str(read_json(folder / INDEX).get("_class_name")))

    own = control_folder(control)
    if own is None:
        return
    config = read_json(own / "config.json")
    if config.get("_class_name") != "ControlNetModel":
        raise ModelError(f"{CONTROL}: {own} holds a {config.get('_class_name')}, but it must be a ControlNetModel")
    for file in weight_files(own, DIFFUSION):
        check_safetensors(file)
    if folder is not None:
        blocks = read_json(folder / "vae" / "config.json").get("block_out_channels", ())
        require_control(config, read_json(folder / "unet" / "config.json"), 2 ** (len(blocks) - 1))


def load_control(pipeline: Any, control: ResolvedControl) -> ControlledGenerator:
    """Return the adapter of a loaded pipeline with its ControlNet. Errors: ModelError, RecipeError."""
    folder = control_folder(control)
    half = folder is not None and all(f".{HALF}" in file.name for file in weight_files(folder, DIFFUSION))
    try:
        network = ControlNetModel.from_pretrained(
            str(folder or control.path),
            revision=control.revision,
            **({"subfolder": control.subfolder} if folder is None and control.subfolder else {}),
            variant=HALF if half else None,
            dtype=pipeline.unet.dtype,
            use_safetensors=True,
        )
    except Exception as error:  # diffusers, safetensors and the hub each raise classes of their own
        raise ModelError(
            f"{CONTROL}: {folder or control.path} cannot be loaded: {type(error).__name__}: {error}; copy or download "
            "it again"
        ) from error

    network.to(pipeline.unet.device, memory_format=torch.channels_last)
    return attach_control(pipeline, network, control)


def attach_control(pipeline: Any, network: ControlNetModel, control: ResolvedControl) -> ControlledGenerator:
    """Return the adapter of a pipeline with a ControlNet. Errors: RecipeError if they do not fit."""
    _require_unet(type(pipeline).__name__)
    require_control(network.config, pipeline.unet.config, pipeline.vae_scale_factor)
    images = ControlImages(control.kind, Path(control.folder), control.images, control.fit)
    return ControlledGenerator(pipeline, network, images, control.scale)


def require_control(control: Mapping[str, Any], unet: Mapping[str, Any], stride: int) -> None:
    """Check the configuration of a ControlNet against that of a UNet. `stride`: pixels per latent.

    Errors: RecipeError that names the difference.
    """
    if control.get("global_pool_conditions"):
        raise RecipeError(f"{CONTROL}: a ControlNet with global_pool_conditions is not supported; name another one")
    for key, (default, name) in SHARED.items():
        found, own = (_plain(config.get(key, default)) for config in (control, unet))
        if found != own:
            raise RecipeError(
                f"{CONTROL} does not fit the generator: its {name} is {found}, the generator's {own} ({key}); name a "
                "ControlNet that was trained for this kind of generator"
            )

    # Each further block of the image's embedding halves its sides.
    halved = 2 ** (len(control.get("conditioning_embedding_out_channels") or (16, 32, 96, 256)) - 1)
    if halved != stride:
        raise RecipeError(
            f"{CONTROL} does not fit the generator: it reads {halved} pixels per latent, the generator has {stride}; "
            "name a ControlNet that was trained for this kind of generator"
        )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _require_unet(kind: str) -> None:
    """Refuse a transformer. Errors: RecipeError."""
    if kind in FLOWS:
        raise RecipeError(
            f"{CONTROL}: the generator is a {kind}, a transformer, and ControlNets work with Stable Diffusion 1, 2 and "
            "XL; leave it out"
        )


def control_folder(control: ResolvedControl) -> Path | None:
    """Return the directory of a ControlNet, or None for a hub model."""
    return None if control.revision is not None else Path(control.path) / (control.subfolder or "")
