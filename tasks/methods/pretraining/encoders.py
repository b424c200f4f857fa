"""Build the encoder of all three methods: a vision transformer (arXiv 2010.11929) of one shape, from transformers.

In every class, weights start as in MAE (arXiv 2111.06377): positions as sines and cosines, linear layers by Glorot's
rule. The usual random numbers of deviation 0.02 suit wide encoders. A narrow encoder that starts from them takes many
more steps before it looks beyond colour.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tailforge.schemas.training.pretraining import PretrainSettings

VERSION = "encoder.1"
Tokens = Callable[[Tensor], Tensor]  # pixels [B, 3, H, W] in -1..1 to patch tokens [B, P, D]
MEAN = STD = (0.5, 0.5, 0.5)  # of pixels in 0..1, so that the encoder reads -1..1
POSITION_SCALE = 0.5  # positions of size 1 hide the patches of a new encoder


def describe_encoder(settings: PretrainSettings, size_px: int) -> dict[str, int]:
    """Return the shape of an encoder as settings of a transformers configuration."""
    return {
        "hidden_size": settings.width,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": 4 * settings.width,
        "image_size": size_px,
        "patch_size": settings.patch_px,
    }


@torch.no_grad()
def start_encoder(module: nn.Module, positions: Tensor, projection: nn.Conv2d) -> None:
    """Fill a new encoder of square images in place: every linear layer of `module`, its positions and its patches.

    `positions` [1 + P, D] has the class token first; `projection` is the layer that reads patches.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)

    # The class token has no position; the patch layer counts as a linear one.
    count, width = positions.shape
    positions[0] = 0
    positions[1:] = POSITION_SCALE * sine_positions(round((count - 1) ** 0.5), width)
    nn.init.xavier_uniform_(projection.weight.view(width, -1))


def sine_positions(side: int, width: int) -> Tensor:
    """Return sines and cosines of row and column of side x side patches, row by row: [P, D], D = `width` = 4 n.

    Source: arXiv 1706.03762, section 3.5, one half of the features for each direction, as MAE uses it.
    """
    # Wavelengths from 2 pi to 10 000 times as much.
    rates = 10_000.0 ** (-torch.arange(width // 4) / (width // 4))
    row, column = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in (row, column)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
