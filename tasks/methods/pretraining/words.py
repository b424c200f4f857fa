"""Compare patches with words: each patch chooses its word among the nouns of the batch and "background".

PACL (arXiv 2212.04994) also compares patches with text, and learns from captions which patches to compare. To read it
from masks, patch by patch, is our choice. Otherwise no loss of CLIP reaches the last layer's patches, because CLIP
compares the class token alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BACKGROUND_WORD = "background"


def name_all(nouns: Sequence[str]) -> list[str]:
    """Return the words that patches choose among: the background, then each noun."""
    return [BACKGROUND_WORD, *(f"a {noun}" for noun in nouns)]


def share_words(shares: Tensor, nouns: NDArray[np.int64], present: NDArray[np.int64]) -> Tensor:
    """Return the share of each patch's pixels per word, [B, P, 1 + K], background first; ignored pixels have no word.

    Shapes: shares [B, R, P] and nouns [B, R] of regions, background first; present [K], the nouns to choose among.
    """
    # Several regions may have one noun: their shares add up.
    owned = torch.from_numpy(nouns[:, 1:, None] == present).to(shares.dtype)
    things = torch.einsum("brp,brk->bpk", shares[:, 1:], owned)
    return torch.cat([shares[:, 0, :, None], things], dim=2)


def word_loss(scores: Tensor, shown: Tensor, sure: Tensor) -> Tensor:
    """Return the mean cross entropy of each patch's softmax over words, with the shares `shown`; both [B, P, 1 + K].

    An image counts as much as its surest thing, `sure` [B].
    """
    losses = -(shown * F.log_softmax(scores, 2)).sum(2)
    return (sure * losses.mean(1)).mean()
