"""Draw without the pyramid: the pixels themselves, as DeepInversion (arXiv 1912.08795) does, or the generator alone.

A form is two functions: the starting weights, on the CPU, and the images [B, K, C, H, W] of the slots.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from tailforge.schemas.settings.inversion import InversionSettings
from tailforge.tasks.methods.natural_inversion.generator import Weights, generate, new_generator
from tailforge.tasks.methods.natural_inversion.jitter import Jitter
from tailforge.tasks.methods.natural_inversion.slots import Stack
from tailforge.tasks.methods.natural_inversion.taps import Anatomy

ALPHA_SPREAD = 1.0

Reader = Callable[[Tensor], Sequence[Tensor]]  # the teacher's features [B, K, c, h, w] of images, as constants


@dataclass(frozen=True)
class Canvas:
    """Settings that all batches of a call share."""

    anatomy: Anatomy
    size: tuple[int, int]
    settings: InversionSettings


def start_pixels(canvas: Canvas, seeds: Sequence[int], random: Generator) -> Weights:
    """Return standard normal pixels in the teacher's normalised space, each image from its own seed."""
    shape = canvas.anatomy.channels, *canvas.size
    return {"pixels": torch.stack([torch.randn(shape, generator=Generator().manual_seed(seed)) for seed in seeds])}


def draw_pixels(canvas: Canvas, stack: Stack, first: Jitter | None, read: Reader) -> Tensor:
    """Return the pixels of the slots, [B, K, C, H, W]."""
    return stack.weights["pixels"].transpose(0, 1)


def start_generator(canvas: Canvas, seeds: Sequence[int], random: Generator) -> Weights:
    """Return the generator and channel scales N(alpha_start, 1), one per image and channel."""
    # Noise and one-hot label enter the generator together.
    inputs = canvas.settings.latent_size + canvas.anatomy.classes
    weights = new_generator(inputs, canvas.anatomy.channels, canvas.size, canvas.settings.width, random)
    spread = ALPHA_SPREAD * torch.randn(len(seeds), canvas.anatomy.channels, generator=random)
    return weights | {"alpha": canvas.settings.alpha_start + spread}


def draw_generator(canvas: Canvas, stack: Stack, first: Jitter | None, read: Reader) -> Tensor:
    """Return alpha * tanh(G(z)), [B, K, C, H, W]."""
    return stack.alpha * torch.tanh(draw_unbounded(canvas, stack))


def draw_unbounded(canvas: Canvas, stack: Stack) -> Tensor:
    """Return G(z), [B, K, C, H, W]."""
    pictures = generate(stack.weights, stack.noise, canvas.size)
    return pictures.view(len(pictures), -1, canvas.anatomy.channels, *canvas.size)
