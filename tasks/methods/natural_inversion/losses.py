"""Compute the loss of NaturalInversion as the authors' code does: norms are not squared, variances are biased.

Each term is one number per batch, [K], so that batches side by side do not affect each other.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.settings.inversion import InversionSettings
from tailforge.tasks.methods.natural_inversion.taps import Pass

PUBLISHED_PIXELS = 256 * 32 * 32  # of a batch: images, rows, columns

Running = Callable[[str], tuple[Tensor, Tensor]]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy per batch, [K], of logits [B, K, classes] and labels [B, K]."""
    return functional.cross_entropy(logits.permute(0, 2, 1), labels, reduction="none").mean(0)


def statistics_distance(statistics: Sequence[tuple[str, Tensor, Tensor]], running: Running) -> Tensor:
    """Return per batch, [K], the summed distances of mean and variance from the running ones over layers."""
    # One distance per layer: batch statistics against the teacher's running ones.
    distances = []
    for name, mean, variance in statistics:
        running_mean, running_variance = running(name)
        distances.append(_norm(mean - running_mean) + _norm(variance - running_variance))
    return torch.stack(distances).sum(0)


def relative_statistics_distance(statistics: Sequence[tuple[str, Tensor, Tensor]], running: Running) -> Tensor:
    """Return the mean over layers, each distance relative to the layer's running deviation or variance; [K].

    Our choice: it depends on neither the scale of a layer nor the number of layers.
    """
    # The same distances, each in units of its layer.
    distances = []
    for name, mean, variance in statistics:
        running_mean, running_variance = running(name)
        deviation, spread = _norm(running_variance.sqrt()), _norm(running_variance)
        distances.append(_norm(mean - running_mean) / deviation + _norm(variance - running_variance) / spread)
    return torch.stack(distances).mean(0)


def total_variation(images: Tensor) -> Tensor:
    """Return the norms of the differences to the right, down and along both diagonals, over the whole batch; [K]."""
    # Neighbours in four directions; each unordered pair counts once.
    here, right, down = images[..., :-1], images[..., 1:], images[..., 1:, :]
    differences = (
        here - right,
        images[..., :-1, :] - down,
        images[..., :-1, :-1] - images[..., 1:, 1:],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )
    return torch.stack([image_norm(difference) for difference in differences]).sum(0)


def image_norm(images: Tensor) -> Tensor:
    """Return the Euclidean norm of each batch as a whole, [K] of [B, K, C, H, W]; it grows as the root of B H W."""
    norm: Tensor = torch.linalg.vector_norm(images, dim=(0, 2, 3, 4))
    return norm


def inversion_losses(
    images: Tensor, labels: Tensor, found: Pass, running: Running, settings: InversionSettings
) -> dict[str, Tensor]:
    """Return the unweighted terms and the weighted `total`, [K] each."""
    # The four terms of the loss, not yet weighted.
    distance = relative_statistics_distance if settings.scale_free else statistics_distance
    terms = {
        "cross_entropy": cross_entropy(found.logits, labels),
        "statistics": distance(found.statistics, running),
        "variation": total_variation(images),
        "norm": image_norm(images),
    }

    # Scale-free: the value that a batch of the published number of images and pixels would have.
    if settings.scale_free:
        height, width = images.shape[-2:]
        grown = math.sqrt(PUBLISHED_PIXELS / (len(images) * height * width))
        terms |= {name: terms[name] * grown for name in ("variation", "norm")}

    # The published weights are the presets' defaults.
    total = terms["cross_entropy"] + settings.statistics_weight * terms["statistics"]
    total = total + settings.variation_weight * terms["variation"] + settings.norm_weight * terms["norm"]
    return {"total": total, **terms}


def _norm(value: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(value, dim=-1)
    return norm
