"""Save and load folders of pre-trained encoders, and read their patch tokens.

AutoModel and AutoImageProcessor of transformers load such a folder. The folder of a caption encoder also holds its
tokenizer. Letters of shapes: B images, P patches, D features, H and W rows and columns.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from tailforge.tasks.methods.pretraining.encoders import MEAN, STD, Tokens
from tailforge.tasks.models.classifier_files import describe_images
from tailforge.tasks.models.generator_files import read_json
from tailforge.tasks.models.preparation import Preparation
from tailforge.tasks.models.pretrained import quiet_loading

VIT, MAE, CLIP = "vit", "vit_mae", "clip"
# The pooling layer is untrained. A masked encoder hides patches unless the ratio is 0.
CHANGES: Mapping[str, Mapping[str, Any]] = {VIT: {"add_pooling_layer": False}, MAE: {"mask_ratio": 0.0}}


@dataclass(frozen=True)
class Encoder:
    """An encoder. `tokens` maps pixels [B, 3, H, W] in -1..1 to the last layer's patch tokens [B, P, D], row by row."""

    module: nn.Module
    tokens: Tokens


def save_encoder(
    folder: Path, model: PreTrainedModel, size_px: int, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Write an encoder's weights, configuration, image processor and, if it has one, tokenizer."""
    # In the layout of transformers.
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)

    # The processor of CLIP would crop by default.
    described = describe_images(Preparation(MEAN, STD, (size_px, size_px)))
    if model.config.model_type == CLIP:
        described |= {"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")

    # safetensors writes weights that only their owner can read.
    shutil.copymode(folder / "config.json", folder / "model.safetensors")


def load_encoder(folder: Path) -> Encoder:
    """Load an encoder of `save_encoder` in evaluation mode. Errors: ModelError for a missing or damaged config.json."""
    kind = read_json(folder / "config.json")["model_type"]
    with quiet_loading():
        model: Any = AutoModel.from_pretrained(folder, local_files_only=True, **CHANGES.get(kind, {})).eval()

    # A masked encoder needs the order of its patches. Of CLIP the vision tower is used.
    if kind == MAE:
        return Encoder(model, partial(_read_unmasked, model, model.config.patch_size))
    module: nn.Module = model.vision_model if kind == CLIP else model
    return Encoder(module, partial(_read, module))


def _read(module: nn.Module, pixels: Tensor) -> Tensor:
    # The first token is the class token.
    tokens: Tensor = module(pixel_values=pixels).last_hidden_state[:, 1:]
    return tokens


def _read_unmasked(module: nn.Module, patch_px: int, pixels: Tensor) -> Tensor:
    """Return the patch tokens [B, P, D] in the image's order."""
    # The model sorts the patches by noise, which is random unless rising numbers replace it.
    patches = (pixels.shape[2] // patch_px) * (pixels.shape[3] // patch_px)
    order = torch.arange(patches, dtype=pixels.dtype).expand(len(pixels), -1)
    tokens: Tensor = module(pixel_values=pixels, noise=order).last_hidden_state[:, 1:]
    return tokens
