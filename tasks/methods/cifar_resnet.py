"""Build the residual network for small images that is usual for CIFAR.

Source: "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 4.2: the stem is one 3 x 3
convolution without pooling. The first stage keeps the image's resolution, and each further stage halves it. Widths 64,
128, 256, 512 with depths 3, 4, 6, 3 are the CIFAR ResNet-34.

Letters of shapes: N images, C channels, H and W rows and columns.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm and a shortcut, from `inputs` to `outputs` channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        # The shortcut is the identity, or a 1 x 1 convolution where the shape changes (option B of the paper).
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return features [N, outputs, H / stride, W / stride] of features [N, inputs, H, W]."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """A residual network for classification. `widths`: channels of each stage; `depths`: its number of blocks."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])

        # The first block of every stage but the first halves the resolution.
        stages, width = [], widths[0]
        for stage, (wide, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = [
                BasicBlock(width, wide, 2 if stage else 1),
                *(BasicBlock(wide, wide, 1) for _ in range(depth - 1)),
            ]
            stages.append(nn.Sequential(*blocks))
            width = wide

        # Classify the mean of the last features.
        self.stages = nn.ModuleList(stages)
        self.linear = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of normalised images [N, C, H, W]."""
        x = F.relu(self.bn(self.conv(images)))
        for stage in self.stages:
            x = stage(x)
        # Global average pooling, then the linear classifier.
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits
