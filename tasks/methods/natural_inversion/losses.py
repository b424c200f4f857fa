"""The loss of NaturalInversion as the authors' code computes it: norms are not squared, variances are biased.

Each term is one number a batch, [K], so that batches side by side stay strangers.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.settings.inversion import InversionSettings
from tailforge.tasks.methods.natural_inversion.taps import Pass

PUBLISHED_BATCH = 256

Running = Callable[[str], tuple[Tensor, Tensor]]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch [K] of logits [B, K, classes] and labels [B, K]."""
    return functional.cross_entropy(logits.permute(0, 2, 1), labels, reduction="none").mean(0)


def statistics_distance(statistics: Sequence[tuple[str, Tensor, Tensor]], running: Running) -> Tensor:
    """Sum over BatchNorm layers of the norms of mean and variance less the running ones; [K]."""
    distances = []
    for name, mean, variance in statistics:
        running_mean, running_variance = running(name)
        distances.append(_norm(mean - running_mean) + _norm(variance - running_variance))
    return torch.stack(distances).sum(0)


def relative_statistics_distance(statistics: Sequence[tuple[str, Tensor, Tensor]], running: Running) -> Tensor:
    """Mean over layers, each distance relative to the norm of the layer's running deviation or variance; [K].

    A choice of ours: it depends on neither the scale of a layer nor the number of layers.
    """
    distances = []
    for name, mean, variance in statistics:
        running_mean, running_variance = running(name)
        deviation, spread = _norm(running_variance.sqrt()), _norm(running_variance)
        distances.append(_norm(mean - running_mean) / deviation + _norm(variance - running_variance) / spread)
    return torch.stack(distances).mean(0)


def total_variation(images: Tensor) -> Tensor:
    """Norms of the differences to the right, down and along both diagonals, over the whole batch; [K]."""
    here, right, down = images[..., :-1], images[..., 1:], images[..., 1:, :]
    differences = (
        here - right,
        images[..., :-1, :] - down,
        images[..., :-1, :-1] - images[..., 1:, 1:],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )
    return torch.stack([image_norm(difference) for difference in differences]).sum(0)


def image_norm(images: Tensor) -> Tensor:
    """Euclidean norm of each batch as a whole, [K] of [B, K, C, H, W]; it grows as the root of B."""
    norm: Tensor = torch.linalg.vector_norm(images, dim=(0, 2, 3, 4))
    return norm


def inversion_losses(
    images: Tensor, labels: Tensor, found: Pass, running: Running, settings: InversionSettings
) -> dict[str, Tensor]:
    """Terms and `total`, [K] each. Terms are not weighted; total is."""
    distance = relative_statistics_distance if settings.scale_free else statistics_distance
    terms = {
        "cross_entropy": cross_entropy(found.logits, labels),
        "statistics": distance(found.statistics, running),
        "variation": total_variation(images),
        "norm": image_norm(images),
    }
    if settings.scale_free:  # as they would be for a batch of the published size
        grown = math.sqrt(PUBLISHED_BATCH / len(images))
        terms |= {name: terms[name] * grown for name in ("variation", "norm")}
    total = terms["cross_entropy"] + settings.statistics_weight * terms["statistics"]
    total = total + settings.variation_weight * terms["variation"] + settings.norm_weight * terms["norm"]
    return {"total": total, **terms}


def _norm(value: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(value, dim=-1)
    return norm
