"""Folders of pre-trained encoders, as transformers saves and loads them, and what probes read of one.

AutoModel and AutoImageProcessor load such a folder; that of a caption encoder holds its tokenizer too.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from tailforge.tasks.methods.pretraining.encoders import MEAN, STD, Tokens
from tailforge.tasks.models.classifier_files import describe_images
from tailforge.tasks.models.generator_files import read_json
from tailforge.tasks.models.preparation import Preparation

VIT, MAE, CLIP = "vit", "vit_mae", "clip"
# A pooling layer was never trained; a masked encoder hides patches unless it is told not to.
CHANGES: Mapping[str, Mapping[str, Any]] = {VIT: {"add_pooling_layer": False}, MAE: {"mask_ratio": 0.0}}


@dataclass(frozen=True)
class Encoder:
    """`tokens` gives the patch tokens of the last layer [B, P, D], row by row, of pixels [B, 3, H, W] in -1..1."""

    module: nn.Module
    tokens: Tokens


def save_encoder(
    folder: Path, model: PreTrainedModel, size_px: int, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Write weights, configuration and image processor, and the tokenizer where there is one."""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    described = describe_images(Preparation(MEAN, STD, (size_px, size_px)))
    if model.config.model_type == CLIP:  # whose processor would crop by default
        described |= {"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    # safetensors leaves weights that their owner alone can read
    shutil.copymode(folder / "config.json", folder / "model.safetensors")


def load_encoder(folder: Path) -> Encoder:
    """The encoder of a folder that `save_encoder` wrote, to read or to tune; in eval mode."""
    kind = read_json(folder / "config.json")["model_type"]
    with _quiet():
        model: Any = AutoModel.from_pretrained(folder, local_files_only=True, **CHANGES.get(kind, {})).eval()
    if kind == MAE:
        return Encoder(model, partial(_read_unmasked, model, model.config.patch_size))
    module: nn.Module = model.vision_model if kind == CLIP else model
    return Encoder(module, partial(_read, module))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the list of weights that are left out, a decoder's or none."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _read(module: nn.Module, pixels: Tensor) -> Tensor:
    tokens: Tensor = module(pixel_values=pixels).last_hidden_state[:, 1:]
    return tokens


def _read_unmasked(module: nn.Module, patch_px: int, pixels: Tensor) -> Tensor:
    """In the image's order; without a noise of one's own the model shuffles its patches."""
    patches = (pixels.shape[2] // patch_px) * (pixels.shape[3] // patch_px)
    order = torch.arange(patches, dtype=pixels.dtype).expand(len(pixels), -1)
    tokens: Tensor = module(pixel_values=pixels, noise=order).last_hidden_state[:, 1:]
    return tokens
