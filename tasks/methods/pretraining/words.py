"""Words of patches: each patch chooses, among the nouns of the batch and "background", the word of what it shows.

That patches rather than the whole image are compared with text is as in PACL (arXiv 2212.04994), which learns from
captions which patches to compare; that masks say it, patch by patch, is ours. Without it no loss of CLIP reaches the
last layer's patches, as the class token alone is compared.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BACKGROUND_WORD = "background"


def name_all(nouns: Sequence[str]) -> list[str]:
    """What patches choose among: the background, then each noun."""
    return [BACKGROUND_WORD, *(f"a {noun}" for noun in nouns)]


def share_words(shares: Tensor, nouns: NDArray[np.int64], present: NDArray[np.int64]) -> Tensor:
    """Share of each patch's pixels that each word names: [B, P, 1 + K], the background first; ignored pixels in none.

    Shapes: shares [B, R, P] and nouns [B, R] of regions, background first; present [K], the nouns to choose among.
    """
    owned = torch.from_numpy(nouns[:, 1:, None] == present).to(shares.dtype)
    things = torch.einsum("brp,brk->bpk", shares[:, 1:], owned)
    return torch.cat([shares[:, 0, :, None], things], dim=2)


def word_loss(scores: Tensor, shown: Tensor, sure: Tensor) -> Tensor:
    """Mean cross entropy of a patch's softmax over the words, by what is `shown` of each; both [B, P, 1 + K].

    An image counts as much as its surest thing, `sure` [B].
    """
    losses = -(shown * F.log_softmax(scores, 2)).sum(2)
    return (sure * losses.mean(1)).mean()
