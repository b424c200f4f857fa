"""Choose the capture and the layers that read a denoiser's attention to words. Only this module knows all kinds.

A UNet's cross-attention is read in one layer, chosen by measurement (cross_attention.py). A transformer's joint
attention is read in all joint layers without Flux's single-stream ones: our choice, not a measured one.
"""

from collections.abc import Collection, Sequence
from typing import Any

from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.annotation import NO_AFFINITY
from tailforge.tasks.methods.attention.cross_attention import Capture, choose_layer, find_layers
from tailforge.tasks.methods.attention.joint_attention import JointCapture, find_joint_layers
from tailforge.tasks.methods.attention.self_affinity import SpreadCapture
from tailforge.tasks.methods.attention.word_capture import Grid, WordCapture


def watch_words(
    denoiser: nn.Module,
    words: Sequence[Sequence[Sequence[int]]],
    rows: slice,
    steps: Collection[float],
    latents: Grid,
    affinity: int = 0,
) -> WordCapture[Any]:
    """Return a context that records while the denoiser runs on latents of this grid; see WordCapture.

    `affinity`: how many times self-attention spreads the maps. Errors: EngineError for a foreign network; RecipeError
    for an affinity that the network does not have.
    """
    # Transformers: every joint layer. They have no self-attention apart from their text.
    if isinstance(denoiser, SD3Transformer2DModel | FluxTransformer2DModel):
        if affinity:
            raise RecipeError(NO_AFFINITY)
        return JointCapture(denoiser, find_joint_layers(denoiser), words, rows, steps)

    # UNets: the one layer that showed objects best.
    layers = [choose_layer(find_layers(denoiser), *latents)]
    if affinity:
        return SpreadCapture(denoiser, layers, words, rows, steps, times=affinity)
    return Capture(denoiser, layers, words, rows, steps)


def grid_of(latents: Tensor) -> Grid:
    """Return the rows and columns of latents [B, C, H, W]."""
    height, width = latents.shape[-2:]
    return height, width
