"""The generator of a batch: it maps noise and label to an image, starts untrained and is discarded (paper, section 3).

Each of the batches side by side has its own weights. They are stacked here, [K, ...], and convolved in groups.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

SLOPE = 0.2
SMALLEST = 8  # the first grid is no larger than this

Weights = dict[str, Tensor]
Size = tuple[int, int]


def grid_sizes(size: Size) -> list[Size]:
    """Return the sizes from the first grid to the image by two or more doublings. 32 pixels: 8, 16, 32 as published."""
    # Halve from the image down, odd sizes rounded up.
    sizes = [size]
    while len(sizes) < 3 or max(sizes[0]) > SMALLEST:
        height, width = sizes[0]
        sizes.insert(0, ((height + 1) // 2, (width + 1) // 2))
    return sizes


def new_generator(inputs: int, channels: int, size: Size, width: int, random: Generator) -> Weights:
    """Return the starting weights, on the CPU: BatchNorm N(1, 0.02), convolutions Kaiming-normal, linear uniform."""
    # One BatchNorm and one convolution per level; the last two levels have the image's size.
    sizes = grid_sizes(size)
    weights = new_projection(inputs, width, sizes[0], random)
    outputs = [*(width for _ in sizes[2:]), max(1, width // 2), channels]
    for level, output in enumerate(outputs):
        weights[f"scale{level}"] = 1 + 0.02 * torch.randn(width, generator=random)
        weights[f"shift{level}"] = torch.zeros(width)
        spread = math.sqrt(2 / (width * 9))
        weights[f"conv{level}"] = spread * torch.randn(output, width, 3, 3, generator=random)
        weights[f"bias{level}"] = torch.zeros(output)
        width = output
    return weights


def new_projection(inputs: int, width: int, first: Size, random: Generator) -> Weights:
    """Return the linear layer from noise and label to the first grid: weight [outputs, inputs], bias [outputs]."""
    # Uniform by fan-in, as torch draws a linear layer.
    outputs = width * first[0] * first[1]
    bound = 1 / math.sqrt(inputs)
    return {
        "linear": (2 * torch.rand(outputs, inputs, generator=random) - 1) * bound,
        "linear_bias": (2 * torch.rand(outputs, generator=random) - 1) * bound,
    }


def generate(weights: Mapping[str, Tensor], noise: Tensor, size: Size) -> Tensor:
    """Return unbounded images [B, K * C, H, W] of noise [K, B, inputs]; BatchNorm uses the batch's own statistics."""
    # Linear layer of every batch, to the first grid.
    sizes = grid_sizes(size)
    batch = noise.shape[1]
    x = torch.baddbmm(weights["linear_bias"].unsqueeze(1), noise, weights["linear"].transpose(1, 2))
    x = x.transpose(0, 1).reshape(batch, -1, *sizes[0])

    # Per level: BatchNorm, leaky ReLU, enlargement, convolution.
    for level, grown in enumerate([*sizes[1:], sizes[-1]]):
        scale, shift = weights[f"scale{level}"].flatten(), weights[f"shift{level}"].flatten()
        x = functional.batch_norm(x, None, None, scale, shift, training=True)
        x = resize(functional.leaky_relu(x, SLOPE), grown)
        x = grouped_conv(x, weights[f"conv{level}"], weights[f"bias{level}"])
    return x


def grouped_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve [B, K * I, H, W] by weight [K, O, I, k, k] and bias [K, O], padded: each batch by its own weights."""
    return functional.conv2d(x, weight.flatten(0, 1), bias.flatten(), padding=weight.shape[-1] // 2, groups=len(weight))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize x [B, C, H, W] by nearest neighbour; returns x itself if it has this size."""
    return x if x.shape[-2:] == tuple(size) else functional.interpolate(x, tuple(size), mode="nearest")
