"""Which capture reads the words' attention in a denoiser, and which of its layers: the one place that knows all kinds.

A UNet's cross-attention is read in one layer, chosen by measurement (cross_attention.py). A transformer's joint
attention is read in all of its joint layers, Flux's single-stream ones left out: a choice of ours, not a measured one.
"""

from collections.abc import Collection, Sequence
from typing import Any

from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn

from tailforge.schemas.errors import RecipeError
from tailforge.tasks.methods.attention.cross_attention import Capture, choose_layer, find_layers
from tailforge.tasks.methods.attention.joint_attention import JointCapture, find_joint_layers
from tailforge.tasks.methods.attention.self_affinity import SpreadCapture
from tailforge.tasks.methods.attention.word_capture import Grid, WordCapture

NO_AFFINITY = (
    "annotation.affinity spreads masks by the self-attention of a UNet; Stable Diffusion 3 and Flux have none that is "
    "apart from their text, so leave it out or set it to 0"
)


def watch_words(
    denoiser: nn.Module,
    words: Sequence[Sequence[Sequence[int]]],
    rows: slice,
    steps: Collection[float],
    latents: Grid,
    affinity: int = 0,
) -> WordCapture[Any]:
    """A context that records while the denoiser is called on latents of these rows and columns; see WordCapture.

    `affinity`: how many times maps are spread. Errors: EngineError for a foreign network; RecipeError for an affinity
    that the network does not have.
    """
    if isinstance(denoiser, SD3Transformer2DModel | FluxTransformer2DModel):
        if affinity:
            raise RecipeError(NO_AFFINITY)
        return JointCapture(denoiser, find_joint_layers(denoiser), words, rows, steps)
    layers = [choose_layer(find_layers(denoiser), *latents)]
    if affinity:
        return SpreadCapture(denoiser, layers, words, rows, steps, times=affinity)
    return Capture(denoiser, layers, words, rows, steps)


def grid_of(latents: Tensor) -> Grid:
    """Rows and columns of latents [B, C, H, W]."""
    height, width = latents.shape[-2:]
    return height, width
