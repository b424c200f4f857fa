"""Record attention to chosen words in transformers that read image and text in one joint attention.

The maps are those of cross_attention.py (Free-ATM, arXiv 2308.06739; the way to take them is our choice), for Stable
Diffusion 3 (Esser et al. 2024, arXiv 2403.03206) and Flux. There the softmax runs over text and image keys together:

    P[p, s] = softmax over all text and image keys s of (q_p . k_s / sqrt(D)),   p an image position
    a[p, j] = mean over heads of (sum of P[p, s] over the tokens s of word j)

q and k come after their norms and, in Flux, after the rotary embedding. The code never forms P: attention with values 1
at the tokens of word j and 0 elsewhere gives a[p, j] exactly, in the memory of an ordinary attention call.

Letters of shapes: B images, H heads, N image positions, T text tokens, S keys (text, then image), D features per head,
K words.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn

from tailforge.schemas.errors import EngineError
from tailforge.tasks.methods.attention.word_capture import Grid, WordCapture, apply_attention, split_heads

FLUX_TIMESTEPS = 1000  # Flux reads t / 1000, SD3 reads t


@dataclass(frozen=True)
class JointLayer:
    """One joint attention. In a single-stream layer, text and image share their projections."""

    name: str
    module: nn.Module
    single_stream: bool


def find_joint_layers(denoiser: nn.Module, single_blocks: bool = False) -> list[JointLayer]:
    """Return the joint attention of every block in order; Flux's single-stream blocks only with `single_blocks`.

    The second attention of SD3.5's dual blocks joins image positions alone. It holds no word, so it is not listed.
    Errors: EngineError for another network or a compiled one.
    """
    if not isinstance(denoiser, SD3Transformer2DModel | FluxTransformer2DModel):
        raise EngineError(
            f"no joint attention is known in {type(denoiser).__name__}; masks need an SD3Transformer2DModel or a "
            "FluxTransformer2DModel that is not compiled"
        )

    # Flux has a second stack, in which text and image share their projections.
    stacks = ["transformer_blocks"]
    if single_blocks and isinstance(denoiser, FluxTransformer2DModel):
        stacks.append("single_transformer_blocks")
    return [
        JointLayer(f"{stack}.{number}.attn", block.attn, stack.startswith("single"))
        for stack in stacks
        for number, block in enumerate(getattr(denoiser, stack))
    ]


def join_positions(encoders: Sequence[tuple[int, Sequence[Sequence[int]]]]) -> list[list[int]]:
    """Return the token positions [K][...] of every word in the joint text: the encoders' texts one after another.

    Each encoder gives its length, padding included, and its own positions of the same words. A word that one encoder
    cut off has no position there and keeps those of the others. SD3: [(77, clip), (256, t5)], with positions shared by
    its two CLIP encoders; Flux: [(512, t5)].
    """
    starts = [0, *accumulate(length for length, _ in encoders)]
    words: list[list[int]] = [[] for _ in encoders[0][1]]
    # Shift each encoder's positions by the length of the texts before it.
    for start, (length, found) in zip(starts, encoders, strict=False):
        for word, tokens in zip(words, found, strict=True):
            assert all(0 <= token < length for token in tokens), "positions are found in the text as it was cut"
            word += [start + token for token in tokens]
    return words


@dataclass
class JointCapture(WordCapture[JointLayer]):
    """Records the joint attention of an SD3Transformer2DModel or a FluxTransformer2DModel.

    For both, `steps` are the scheduler's timesteps, out of 1000. Positions of words count from the first token of the
    joint text. Further fields and errors as in WordCapture.
    """

    _text_tokens: int = 0  # T of the current call

    def _measure_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Grid | None:
        """Return rows and columns of image tokens; Flux reads a flat sequence, so its last position gives them."""
        denoiser: Any = self.denoiser
        given = inspect.signature(denoiser.forward).bind(*args, **kwargs).arguments
        self._text_tokens = given["encoder_hidden_states"].shape[1]
        is_flux = isinstance(denoiser, FluxTransformer2DModel)

        # A call at another timestep records nothing.
        if not self._is_chosen(given["timestep"].flatten()[0], FLUX_TIMESTEPS if is_flux else 1):
            return None

        # Flux: positions are (0, row, column) per image token. SD3: patches of the latents.
        if is_flux:
            _, row, column = given["img_ids"].reshape(-1, 3)[-1].tolist()
            return int(row) + 1, int(column) + 1
        height, width = given["hidden_states"].shape[-2:]
        return height // denoiser.config.patch_size, width // denoiser.config.patch_size

    def _is_chosen(self, timestep: Tensor, scale: int) -> bool:
        """Return whether this is one of `steps`; the denoiser may get it in its own, coarser number format."""
        rounding = torch.finfo(timestep.dtype).eps if timestep.is_floating_point() else 0.0
        return any(math.isclose(float(timestep) * scale, step, rel_tol=rounding) for step in self.steps)

    def _list_projections(self, layer: JointLayer) -> Sequence[str]:
        return ("to_q", "to_k") if layer.single_stream else ("to_q", "to_k", "add_k_proj")

    def _read_layer(
        self, layer: JointLayer, projected: dict[str, Tensor], kwargs: dict[str, Any]
    ) -> tuple[Tensor, Grid]:
        assert self._size is not None
        module: Any = layer.module

        # q and k after their norms. Image positions ask; text and image positions answer.
        query = _normalise(split_heads(projected["to_q"], module.heads), module.norm_q)
        key = _normalise(split_heads(projected["to_k"], module.heads), module.norm_k)
        text = self._text_tokens

        # A single stream holds text and image in one projection; a double stream has keys for each.
        if layer.single_stream:
            query = query[:, :, text:]
        else:
            text_key = _normalise(split_heads(projected["add_k_proj"], module.heads), module.norm_added_k)
            key = torch.cat([text_key, key], dim=2)  # SD3 puts the image first: a softmax does not care

        # Flux turns queries and keys by the rotary embedding; SD3 does not.
        rotation = kwargs.get("image_rotary_emb")
        if rotation is not None:
            cos, sin = rotation
            query, key = rotate(query, cos[text:], sin[text:]), rotate(key, cos, sin)

        # a[p, j]: the words' columns belong to the text keys, which come first.
        words = self._select_words(text, key.device)
        return apply_attention(query, key, words), self._size


def _normalise(features: Tensor, norm: nn.Module | None) -> Tensor:
    """Return features [B, H, S, D] as the layer normalises them, one head at a time."""
    normalised: Tensor = features if norm is None else norm(features)
    return normalised


def rotate(features: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding cos and sin [S, D] to features [B, H, S, D] (Su et al. 2021, equation 34).

    arXiv 2104.09864. Neighbouring features form the pairs. It computes in float32 and rounds back, like diffusers.
    """
    # (x, y) -> (-y, x) per pair of neighbours.
    first, second = features.float().reshape(*features.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-second, first], dim=-1).flatten(-2)
    return (features.float() * cos + turned * sin).to(features.dtype)
