"""The generator of a batch: noise and label to a picture, trained from scratch and thrown away (paper, section 3).

Batches side by side hold weights of their own; here they are stacked, [K, ...], and convolved in groups.
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
    """Sizes from the first grid to the picture; two doublings or more. 32 pixels: 8, 16, 32, as published."""
    sizes = [size]
    while len(sizes) < 3 or max(sizes[0]) > SMALLEST:
        height, width = sizes[0]
        sizes.insert(0, ((height + 1) // 2, (width + 1) // 2))
    return sizes


def new_generator(inputs: int, channels: int, size: Size, width: int, random: Generator) -> Weights:
    """Weights at the start, on the CPU: BatchNorm N(1, 0.02), convolutions Kaiming-normal, the linear layer uniform."""
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
    """The linear layer from noise and label to the first grid."""
    outputs = width * first[0] * first[1]
    bound = 1 / math.sqrt(inputs)
    return {
        "linear": (2 * torch.rand(outputs, inputs, generator=random) - 1) * bound,
        "linear_bias": (2 * torch.rand(outputs, generator=random) - 1) * bound,
    }


def generate(weights: Mapping[str, Tensor], noise: Tensor, size: Size) -> Tensor:
    """Pictures [B, K * C, H, W] of noise [K, B, inputs], not bounded; BatchNorm by the batch's own statistics."""
    sizes = grid_sizes(size)
    batch = noise.shape[1]
    x = torch.baddbmm(weights["linear_bias"].unsqueeze(1), noise, weights["linear"].transpose(1, 2))
    x = x.transpose(0, 1).reshape(batch, -1, *sizes[0])
    for level, grown in enumerate([*sizes[1:], sizes[-1]]):
        scale, shift = weights[f"scale{level}"].flatten(), weights[f"shift{level}"].flatten()
        x = functional.batch_norm(x, None, None, scale, shift, training=True)
        x = resize(functional.leaky_relu(x, SLOPE), grown)
        x = grouped_conv(x, weights[f"conv{level}"], weights[f"bias{level}"])
    return x


def grouped_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Padded convolution of [B, K * I, H, W] with weight [K, O, I, k, k] and bias [K, O]: each batch with its own."""
    return functional.conv2d(x, weight.flatten(0, 1), bias.flatten(), padding=weight.shape[-1] // 2, groups=len(weight))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest neighbour; the same tensor if it has this size."""
    return x if x.shape[-2:] == tuple(size) else functional.interpolate(x, tuple(size), mode="nearest")
