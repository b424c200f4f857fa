"""Spread the words' maps by self-attention, so that they fill regions that look alike (arXiv 2309.14303).

In Dataset Diffusion, the refined map of a word is S^n a. Here a is its map as a vector over image positions, and S is
the mean over heads of

    softmax over all q of (query_p . key_q * scale),   p and q image positions, rows summing to 1

The paper forms S^4 of a mean over self-attentions. Our choice is to apply S n times to the vectors and never form it.
S comes from the same block as the cross-attention, at the last recorded step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailforge.schemas.errors import EngineError
from tailforge.tasks.methods.attention.cross_attention import Capture
from tailforge.tasks.methods.attention.word_capture import HALVES, apply_attention, split_heads

PROJECTIONS = ("to_q", "to_k")


@dataclass
class SpreadCapture(Capture):
    """Records one layer as Capture does, and spreads its maps `times` times.

    Errors: those of Capture; EngineError if the block's `attn1` gives no matching queries and keys.
    """

    times: int = field(kw_only=True)
    _own: dict[str, Tensor] = field(default_factory=dict)  # last output of attn1's projections, [B, N, H * D] each

    @property
    def _self_attention(self) -> tuple[str, Any]:
        # `attn1` is the self-attention of the same transformer block.
        (layer,) = self.layers
        name = layer.name.removesuffix("attn2") + "attn1"
        return name, self.denoiser.get_submodule(name)

    def __enter__(self) -> Self:
        module: nn.Module = self._self_attention[1]
        super().__enter__()
        # Keep its queries and keys beside those of the cross-attention.
        for name in PROJECTIONS:
            self._handles.append(module.get_submodule(name).register_forward_hook(self._keep(name)))
        return self

    def _keep(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            # Each step overwrites the one before: the last recorded step remains.
            if self._size:
                self._own[name] = output.detach()[self.rows]

        return hook

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is not None:
            return

        # Maps and self-attention must have the same image positions, or the product means nothing.
        found = [self._own[name].shape[1] for name in PROJECTIONS if name in self._own]
        (positions,) = {rows * columns for _, (rows, columns) in self._sums}
        if found != [positions] * len(PROJECTIONS):
            raise EngineError(
                f"attention layer {self._self_attention[0]} gave no queries and keys of the {positions} positions of "
                "the words' maps; set annotation.affinity to 0, or use a model that is neither fused nor merges tokens"
            )

    @torch.no_grad()
    def maps(self, image: int) -> NDArray[np.float16]:
        """Return the spread maps [K, h, w] of one image's words; a word without tokens is all zero."""
        module = self._self_attention[1]
        query, key = (split_heads(self._own[name][image, None], module.heads) for name in PROJECTIONS)

        # S^n a, one product per turn, without the matrix S.
        average = self._average(image, HALVES)
        vectors = average.flatten(1).T[None]
        for _ in range(self.times):
            vectors = apply_attention(query, key, vectors, module.scale)
        return vectors[0].T.reshape(average.shape).to(torch.float16).cpu().numpy()
