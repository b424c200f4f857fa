"""Compute the target of a search: a direction in an image encoder's feature space for every image.

The published target is the mean of the references' features. With few references of varied looks, that mean also holds
their colours and backgrounds. Ours is the difference of means

    t = (mean of references - mean of plain) / its norm

to plain samples of the same concept. The plain samples share everything but the concept with the images to come. Both
targets score by the cosine with t. docs/benchmarks/seedselect.md (arms `guide/`) shows how often each ranks a right
image above a wrong one. It also shows the difference whitened by the plain samples' covariance, which is therefore not
here.

The confidence of features f is (f . t - s) / g. It is 0 for what the image's prompt gives without a choice: s is the
mean score of its own screened candidates after few steps, or else of the plain samples. It is 1 if f exceeds s by as
much as a mean reference exceeds a mean plain sample: g is the mean over references, each left out of its target in
turn. The material and the background in a prompt move the score as much as the concept does; s cancels them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.settings.engines import Target

SMALLEST_GAP = 1e-3  # lower bound of the gap, for references no further from plain samples than each other


class ImageEncoder(Protocol):
    """A differentiable image encoder."""

    def embed_pixels(self, images: Tensor) -> Tensor:
        """Return features [B, D], not normalised, of images [B, 3, height, width] in -1..1, of any size."""


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
        """Return the references as unit vectors [R, D]."""
        return functional.normalize(self.references, dim=-1)

    @cached_property
    def plain_mean(self) -> Tensor:
        """Return the mean of the plain samples' unit vectors [D]; 0 without any."""
        # Without plain samples the difference of means is the mean of the references.
        if not len(self.plain):
            return torch.zeros_like(self.references[0])
        return functional.normalize(self.plain, dim=-1).mean(0)

    def target(self, chosen: Sequence[int], kind: Target) -> Tensor:
        """Return the target, a unit vector [D], from the references `chosen`."""
        # The published target, or the difference of means (ours).
        rows = list(chosen)
        if kind == "centroid":  # the published mean takes features without normalising them
            return functional.normalize(self.references[rows].mean(0), dim=-1)
        return functional.normalize(self.units[rows].mean(0) - self.plain_mean, dim=-1)

    def gap(self, kind: Target) -> float:
        """Return g: the mean distance of references from the plain samples, along targets made without them."""
        # Leave one out: a target that knows the reference would flatter it.
        everyone = range(len(self.units))
        others = [[i for i in everyone if i != left] or [left] for left in everyone]
        along = [(self.units[i] - self.plain_mean) @ self.target(others[i], kind) for i in everyone]
        return max(float(torch.stack(along).mean()), SMALLEST_GAP)


def choose_references(count: int, wanted: int | None, generator: torch.Generator) -> list[int]:
    """Return a random subset of `count` references, in rising order; all if `wanted` is None or too large."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return sorted(torch.randperm(count, generator=generator)[:wanted].tolist())


def make_views(images: Tensor, count: int) -> Tensor:
    """Return the first `count` views of images [K, 3, height, width] as [count, K, 3, height, width].

    The views: the image, its mirror image, two crops of 7/8.
    """
    # Two corner crops, resized back to the image's size.
    height, width = images.shape[-2:]
    rows, columns = height * 7 // 8, width * 7 // 8
    crops = (images[..., :rows, :columns], images[..., -rows:, -columns:])
    resized = [
        functional.interpolate(crop, (height, width), mode="bilinear", align_corners=False)
        for crop in crops[: count - 2]
    ]
    return torch.stack([images, images.flip(-1), *resized][:count])


def embed_views(encoder: ImageEncoder, images: Tensor, count: int) -> Tensor:
    """Return the mean over views of the unit features [K, D]."""
    # All views pass through the encoder as one batch.
    views = make_views(images, count)
    features = functional.normalize(encoder.embed_pixels(views.flatten(0, 1)), dim=-1)
    return features.reshape(count, len(images), -1).mean(0)
