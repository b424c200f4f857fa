"""Build the small residual networks whose recall an evaluation measures.

The blocks are those of "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 4.2. The stem halves
the image, so that a training takes a minute on a processor. This is our choice.

Letters of shapes: N images, C channels, H and W rows and columns.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailforge.tasks.methods.cifar_resnet import BasicBlock


@dataclass(frozen=True)
class Preset:
    """Channels and blocks per stage, and the sides in pixels that the network is meant for."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    smallest: int
    largest: int


PRESETS = {"residual-small": Preset((32, 64, 128), (1, 1, 1), smallest=16, largest=64)}

_generator = threading.Lock()  # held while weights are drawn


class SmallResNet(nn.Module):
    """A residual network with a stem of stride 2. `widths`: channels of each stage; `depths`: its number of blocks."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]))

        # The first block of every stage but the first halves the resolution.
        blocks: list[nn.Module] = []
        width = widths[0]
        for stage, (wide, depth) in enumerate(zip(widths, depths, strict=True)):
            for place in range(depth):
                blocks.append(BasicBlock(width, wide, 2 if stage and not place else 1))
                width = wide
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of normalised images [N, C, H, W]."""
        # Global average pooling, then the linear classifier.
        features = self.blocks(F.relu(self.stem(images)))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits


def build_network(preset: str, classes: int, channels: int, seed: int) -> SmallResNet:
    """Return an untrained network of a preset. Equal seeds, classes and channels give equal weights."""
    # Layers draw from the process's generator: one network at a time, and the generator is put back.
    with _generator, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallResNet(PRESETS[preset].widths, PRESETS[preset].depths, classes, channels)
