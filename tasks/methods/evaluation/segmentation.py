"""Segment images: a small encoder-decoder network, cross-entropy with Dice, and intersection over union per class.

The encoder's blocks are those of "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 4.2. The
decoder adds the encoder's features from coarse to fine as "Feature Pyramid Networks" (arXiv 1612.03144), section 3. The
widths, and a stem that halves the image, are our choice for a processor.

Letters of shapes: N images, C channels, H and W rows and columns, K classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from tailforge.tasks.methods.cifar_resnet import BasicBlock
from tailforge.tasks.methods.evaluation.examples import UNKNOWN
from tailforge.tasks.methods.evaluation.metrics import overlap_per_class
from tailforge.tasks.methods.evaluation.task import Habits, Preset, Task, Words

WIDTHS = (24, 48, 96, 128)


class SmallPyramid(nn.Module):
    """An encoder of one block per level and a decoder that adds its features. `widths`: channels per level, fine first.

    Level 1 has half the image's sides, and each further level half the sides of the one before.
    """

    def __init__(self, widths: Sequence[int], classes: int, channels: int) -> None:
        super().__init__()
        fine = widths[0]
        self.stem = nn.Sequential(nn.Conv2d(channels, fine, 3, 2, 1, bias=False), nn.BatchNorm2d(fine), nn.ReLU())

        # Encoder: the first block keeps the stem's resolution.
        pairs = list(zip((fine, *widths), widths, strict=False))
        self.blocks = nn.ModuleList([BasicBlock(a, b, 2 if place else 1) for place, (a, b) in enumerate(pairs)])

        # Decoder, coarse first: features narrow to the next finer level's width, and one convolution smooths the sum.
        steps = list(zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True))
        self.narrow = nn.ModuleList([nn.Conv2d(wide, thin, 1) for wide, thin in steps])
        self.smooth = nn.ModuleList([_smooth(thin) for _, thin in steps])
        self.head = nn.Conv2d(fine, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, K, H, W] of normalised images [N, C, H, W]."""
        # Down: keep the features of every level.
        x, levels = self.stem(images), []
        for block in self.blocks:
            x = block(x)
            levels.append(x)

        # Up: enlarge, and add what the encoder saw at this level.
        for narrow, smooth, level in zip(self.narrow, self.smooth, reversed(levels[:-1]), strict=True):
            x = smooth(level + _enlarge(narrow(x), level))
        return _enlarge(self.head(x), images)


def _smooth(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Return features [N, C, ...] at the last two sides of `like`."""
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def _build(classes: int, channels: int) -> nn.Module:
    return SmallPyramid(WIDTHS, classes, channels)


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the pixels' cross-entropy plus the soft Dice loss, a scalar, of logits [N, K, H, W], labels [N, H, W].

    Dice is the mean over the classes that the batch shows, so that small classes count as much as large ones. Source:
    "V-Net" (arXiv 1606.04797), section 3, for several classes. Pixels of label UNKNOWN count for nothing.
    """
    # Without a known pixel there is nothing to learn.
    known = labels != UNKNOWN
    if not known.any():
        return logits.sum() * 0.0
    entropy = F.cross_entropy(logits, labels, ignore_index=UNKNOWN)

    # Twice the overlap over the sum of both areas, over all images of the batch.
    shares = logits.softmax(1) * known.unsqueeze(1)
    wanted = F.one_hot(labels.clamp(min=0), logits.shape[1]).movedim(-1, 1) * known.unsqueeze(1)
    overlap, areas = ((each).sum((0, 2, 3)) for each in (shares * wanted, shares + wanted))
    shown = wanted.sum((0, 2, 3)) > 0
    dice = 1 - 2 * overlap[shown] / areas[shown]
    return entropy + dice.mean()


SEGMENTATION = Task(
    name="segmentation",
    presets={"pyramid-small": Preset(_build, 16, 256, Habits("adamw", 2e-3, 0.01, 16))},
    loss=segmentation_loss,
    scores=overlap_per_class,
    words=Words(score="IoU", unit="pixel"),
    library_class="AutoModelForSemanticSegmentation",
    habits={False: Habits("adamw", 1e-4, 0.01, 8), True: Habits("adamw", 1e-3, 0.05, 8)},
    part=16,
)
