"""Measure how the images of a group relate, and how far the relations of two groups are apart.

SADM (arXiv 2402.17563) compares relations of clean and predicted batches. Here the relation is the cosine, and the
distance is the mean square off the diagonal. Both are bounded, so a player that wants a large distance cannot win by
scaling features.

Letters of shapes: G groups, M images of a group, D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def affinity(features: Tensor) -> Tensor:
    """Return the cosine of every pair of a group's features [G, M, D]: [G, M, M], whatever the features' scale."""
    unit = F.normalize(features, dim=-1)
    return unit @ unit.transpose(-1, -2)


def structure_distance(first: Tensor, second: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared difference of affinities over pairs of different images, [G], from 0 to 4.

    `first` and `second`: features [G, M, D] of the same images. `weights` [G, M], 0 to 1: the square of a pair counts
    by the geometric mean of its two weights. Images of weight 0 are left out of the mean. A group with fewer than two
    others has distance 0.
    """
    # Weights of pairs; an image is no pair with itself.
    counted = torch.ones(first.shape[:2], device=first.device) if weights is None else weights
    pairs = (counted[:, :, None] * counted[:, None, :]).sqrt()
    pairs = pairs * ~torch.eye(first.shape[1], dtype=torch.bool, device=first.device)

    # Mean over the pairs that count.
    squares = (affinity(first) - affinity(second)).square() * pairs
    return squares.sum((1, 2)) / (pairs > 0).sum((1, 2)).clamp(min=1)


def instance_distance(first: Tensor, second: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the weighted mean squared distance of both unit features [G, M, D] of each image: [G], from 0 to 4."""
    counted = torch.ones(first.shape[:2], device=first.device) if weights is None else weights
    squares = (F.normalize(first, dim=-1) - F.normalize(second, dim=-1)).square().sum(-1) * counted
    return squares.sum(1) / (counted > 0).sum(1).clamp(min=1)


def null_distance(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the structure distance [G] of features [G, M, D] to shuffled ones: between unrelated images of one kind.

    `weights`: [G, M].
    """
    # The next group's images where there are several groups, else the group's own, moved by one.
    other = features.roll(1, dims=0) if len(features) > 1 else features.roll(1, dims=1)
    return structure_distance(features, other, weights)
