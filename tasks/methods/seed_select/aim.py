"""What a search aims at: a direction in an image encoder's feature space for every image.

The published target is the mean of the references' features. With few references of varied looks it also asks for
their colours and backgrounds. Ours is the difference of means

    t = (mean of references - mean of plain) / its norm

to plain samples of the same concept, which have all that is not the concept in common with the images to come. Both
are scored by the cosine with t. How often either ranks a right image above a wrong one, beside the difference whitened
by the plain samples' covariance, which is therefore not here, is in docs/benchmarks/seedselect.md (arms `guide/`).

The confidence of features f is (f . t - s) / g: 0 for what the image's prompt gives without a choice (s: mean score of
its own screened candidates after few steps; without such, of the plain samples), 1 for as much more than that as a mean
reference that the target was made without has over a mean plain sample (g: the mean over references left out in turn).
The material and the background that a prompt asks for move the score as much as the concept does; in s they cancel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.settings.engines import Target

SMALLEST_GAP = 1e-3  # references that plain samples are no further from than this are drawn anyway


class ImageEncoder(Protocol):
    """A differentiable image encoder."""

    def embed_pixels(self, images: Tensor) -> Tensor:
        """Features [B, D], not normalised, of images [B, 3, height, width] in -1..1, of any size."""


@dataclass(frozen=True)
class Aim:
    """Features of a concept's references [R, D] and of plain samples [P, D], as the encoder gives them.

    `latents`: the references' mean latent [C, H, W], for the appearance term.
    """

    references: Tensor
    plain: Tensor
    latents: Tensor

    @cached_property
    def units(self) -> Tensor:
        """The references as unit vectors."""
        return functional.normalize(self.references, dim=-1)

    @cached_property
    def plain_mean(self) -> Tensor:
        """Mean of the plain samples' unit vectors [D]; 0 without any."""
        if not len(self.plain):
            return torch.zeros_like(self.references[0])
        return functional.normalize(self.plain, dim=-1).mean(0)

    def target(self, chosen: Sequence[int], kind: Target) -> Tensor:
        """Unit vector [D] from the references `chosen`."""
        rows = list(chosen)
        if kind == "centroid":  # the published mean is over features as they are
            return functional.normalize(self.references[rows].mean(0), dim=-1)
        return functional.normalize(self.units[rows].mean(0) - self.plain_mean, dim=-1)

    def gap(self, kind: Target) -> float:
        """g: how far a reference that the target does not know is from the plain samples, along the target."""
        everyone = range(len(self.units))
        others = [[i for i in everyone if i != left] or [left] for left in everyone]
        along = [(self.units[i] - self.plain_mean) @ self.target(others[i], kind) for i in everyone]
        return max(float(torch.stack(along).mean()), SMALLEST_GAP)


def choose_references(count: int, wanted: int | None, generator: torch.Generator) -> list[int]:
    """A random subset of `count` references, in rising order; all of them if `wanted` is None or too many."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return sorted(torch.randperm(count, generator=generator)[:wanted].tolist())


def make_views(images: Tensor, count: int) -> Tensor:
    """The first `count` of: the image, its mirror image, two crops of 7/8, as [count, K, 3, height, width]."""
    height, width = images.shape[-2:]
    rows, columns = height * 7 // 8, width * 7 // 8
    crops = (images[..., :rows, :columns], images[..., -rows:, -columns:])
    resized = [
        functional.interpolate(crop, (height, width), mode="bilinear", align_corners=False)
        for crop in crops[: count - 2]
    ]
    return torch.stack([images, images.flip(-1), *resized][:count])


def embed_views(encoder: ImageEncoder, images: Tensor, count: int) -> Tensor:
    """Mean over views of the unit features [K, D]."""
    views = make_views(images, count)
    features = functional.normalize(encoder.embed_pixels(views.flatten(0, 1)), dim=-1)
    return features.reshape(count, len(images), -1).mean(0)
