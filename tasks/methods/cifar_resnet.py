"""Residual network for small images, as is usual for CIFAR: the first stage sees the whole image, each further half.

"Deep Residual Learning for Image Recognition" (arXiv 1512.03385) with the stem of its CIFAR variants: one 3 x 3
convolution, no pooling. Widths 64, 128, 256, 512 with depths 3, 4, 6, 3 are the CIFAR ResNet-34.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """Logits [N, classes] of images [N, channels, height, width]; `depths` are the blocks of each stage."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        stages, width = [], widths[0]
        for stage, (wide, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [
                BasicBlock(width, wide, 2 if stage else 1),
                *(BasicBlock(wide, wide, 1) for _ in range(depth - 1)),
            ]
            stages.append(nn.Sequential(*blocks))
            width = wide
        self.stages = nn.ModuleList(stages)
        self.linear = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(images)))
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits
