"""Classify images: a small residual network, cross-entropy, and recall per class.

The blocks are those of "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 4.2. The stem halves
the image, so that a training takes a minute on a processor. This is our choice.

Letters of shapes: N images, C channels, H and W rows and columns.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from tailforge.tasks.methods.cifar_resnet import BasicBlock
from tailforge.tasks.methods.evaluation.examples import UNKNOWN
from tailforge.tasks.methods.evaluation.metrics import recall_per_class
from tailforge.tasks.methods.evaluation.task import Habits, Preset, Task, Words

WIDTHS, DEPTHS = (32, 64, 128), (1, 1, 1)


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


def _build(classes: int, channels: int) -> nn.Module:
    return SmallResNet(WIDTHS, DEPTHS, classes, channels)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, ignore_index=UNKNOWN)


CLASSIFICATION = Task(
    name="classification",
    presets={"residual-small": Preset(_build, 16, 64, Habits("sgd", 0.1, 5e-4, 128))},
    loss=_loss,
    scores=recall_per_class,
    words=Words(score="recall", unit="image"),
    library_class="AutoModelForImageClassification",
    habits={False: Habits("adamw", 1e-4, 0.01, 32), True: Habits("adamw", 1e-3, 0.05, 32)},
    part=256,
)
