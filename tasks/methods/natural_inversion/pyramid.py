"""Feature Transfer Pyramid (section 3 of the paper): add the teacher's features, small to large, to an image.

The pyramid is linear in the features. Each level is a 1x1 convolution, an addition and a 3x3 convolution. The published
pyramid reads the four stages of a CIFAR ResNet; this one reads any taps.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor

from tailforge.tasks.methods.natural_inversion.generator import Weights, grouped_conv, resize
from tailforge.tasks.methods.natural_inversion.taps import Tap

PYRAMID_PARTS = ("lateral", "smooth", "picture", "mix")


def new_pyramid(taps: Sequence[Tap], channels: int, zero_start: bool, random: Generator) -> Weights:
    """Return the starting weights, on the CPU: torch's default, uniform by fan-in.

    `zero_start`, our choice: the last lateral convolution is zero and the mixing one is the identity, so the first
    image is the generator's alone.
    """
    # One lateral and one smoothing convolution per level, then those that reach the image.
    weights: Weights = {}
    for level, (large, small) in enumerate(pairwise(taps)):
        weights |= _new_conv(f"lateral{level}", small.channels, large.channels, 1, random)
        weights |= _new_conv(f"smooth{level}", large.channels, large.channels, 3, random)
    weights |= _new_conv("picture", taps[0].channels, channels, 1, random)
    weights |= _new_conv("mix", channels, channels, 1, random)
    if zero_start:
        for name in ("picture", "picture_bias", "mix_bias"):
            weights[name].zero_()
        weights["mix"] = torch.eye(channels).view(channels, channels, 1, 1)
    return weights


def refine(weights: Mapping[str, Tensor], picture: Tensor, features: Sequence[Tensor]) -> Tensor:
    """Refine unbounded images [B, K * C, H, W] by features [B, K * c, h, w], large to small; returns them in -1..1."""
    # From the smallest features upwards.
    merged = features[-1]
    for level in reversed(range(len(features) - 1)):
        # The 1x1 convolution comes before the enlargement: the same result for a quarter of the work.
        lateral = grouped_conv(merged, weights[f"lateral{level}"], weights[f"lateral{level}_bias"])
        merged = resize(lateral, features[level].shape[-2:]) + features[level]
        merged = grouped_conv(merged, weights[f"smooth{level}"], weights[f"smooth{level}_bias"])

    # Add the merged features to the image, mix the channels, bound the result.
    added = grouped_conv(merged, weights["picture"], weights["picture_bias"])
    picture = picture + resize(added, picture.shape[-2:])
    return torch.tanh(grouped_conv(picture, weights["mix"], weights["mix_bias"]))


def _new_conv(name: str, inputs: int, outputs: int, side: int, random: Generator) -> Weights:
    # torch's default for convolutions, drawn from the batch's own stream.
    bound = 1 / math.sqrt(inputs * side * side)
    return {
        name: (2 * torch.rand(outputs, inputs, side, side, generator=random) - 1) * bound,
        f"{name}_bias": (2 * torch.rand(outputs, generator=random) - 1) * bound,
    }
