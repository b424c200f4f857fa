"""How the images of a group relate, and how far two groups' relations are apart.

SADM (arXiv 2402.17563) compares relations of clean and predicted batches; that the relation is the cosine and the
distance the mean square off the diagonal are choices of ours: both are bounded, so a player that wants the distance
large cannot win by scaling features.

Letters of shapes: G groups, M images of a group, D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def affinity(features: Tensor) -> Tensor:
    """Cosine of every pair of a group's features [G, M, D]: [G, M, M], invariant to the features' scale."""
    unit = F.normalize(features, dim=-1)
    return unit @ unit.transpose(-1, -2)


def structure_distance(first: Tensor, second: Tensor, weights: Tensor | None = None) -> Tensor:
    """[G]: mean square of the difference of affinities over pairs of different images; 0 to 4.

    `first` and `second`: features [G, M, D] of the same images. `weights` [G, M], 0 to 1: a pair's square counts by the
    geometric mean of its two; images of weight 0 are left out of the mean, and a group with fewer than two others has
    distance 0.
    """
    counted = torch.ones(first.shape[:2], device=first.device) if weights is None else weights
    pairs = (counted[:, :, None] * counted[:, None, :]).sqrt()
    pairs = pairs * ~torch.eye(first.shape[1], dtype=torch.bool, device=first.device)
    squares = (affinity(first) - affinity(second)).square() * pairs
    return squares.sum((1, 2)) / (pairs > 0).sum((1, 2)).clamp(min=1)


def instance_distance(first: Tensor, second: Tensor, weights: Tensor | None = None) -> Tensor:
    """[G]: mean squared distance of each image's unit features [G, M, D] to its own of the other, weighted; 0 to 4."""
    counted = torch.ones(first.shape[:2], device=first.device) if weights is None else weights
    squares = (F.normalize(first, dim=-1) - F.normalize(second, dim=-1)).square().sum(-1) * counted
    return squares.sum(1) / (counted > 0).sum(1).clamp(min=1)


def null_distance(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """[G]: the structure distance of a group to a shuffled one, what unrelated images of the same kind differ by.

    The next group's images where there are several, else the group's own, moved by one.
    """
    other = features.roll(1, dims=0) if len(features) > 1 else features.roll(1, dims=1)
    return structure_distance(features, other, weights)
