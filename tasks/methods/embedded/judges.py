"""Train independent judges of generated pictures: a classifier of part, material and surface, and a part segmenter.

They learn from balanced renders. Only benchmarks may use them, no guide and no filter. Blur, noise and changes of
contrast in training let them read pictures that are less crisp than renders.
Letters of shapes: N pictures, B of a batch, H and W pixel rows and columns, C channels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tailforge.schemas.training.embedded import JudgeSettings
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.training_loop import (
    Learner,
    Observe,
    Saved,
    degrade,
    learn_steps,
    numpy_draws,
    torch_draws,
    warm_up_then_cosine,
)
from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES

VERSION = "judges.1"
BATCH = 128


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.first_norm = nn.GroupNorm(8, outputs)
        self.second_norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H, W] of [N, inputs, H, W]."""
        # The shortcut has a convolution of its own, since the channels differ.
        y = F.silu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        out: Tensor = F.silu(y + self.shortcut(x))
        return out


class Classifier(nn.Module):
    """A network of four blocks, each on half the side of the one before."""

    def __init__(self, width: int) -> None:
        super().__init__()

        # The width grows as the side shrinks.
        sides = (width, 2 * width, 3 * width, 4 * width)
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList([Block(a, b) for a, b in zip((width, *sides[:-1]), sides, strict=True)])
        self.head = nn.Linear(sides[-1], len(PARTS) + len(MATERIALS) + len(SURFACES))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits of part, material and surface, side by side, [N, 12 + 6 + 5], of pixels [N, 3, H, W]."""
        # Halve the side before the first block and between blocks, then average over all places.
        x = F.avg_pool2d(F.silu(self.stem(pixels)), 2)
        for number, block in enumerate(self.blocks):
            x = block(F.max_pool2d(x, 2) if number else x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class Segmenter(nn.Module):
    """A small U-Net of three levels."""

    def __init__(self, width: int) -> None:
        super().__init__()

        # Down: three levels.
        self.fine = Block(3, width)
        self.middle = Block(width, 2 * width)
        self.coarse = Block(2 * width, 2 * width)

        # Up: each level reads what comes from below beside what it saw on the way down.
        self.up_middle = Block(4 * width, width)
        self.up_fine = Block(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logit of "part" at each pixel, [N, H, W], of pixels [N, 3, H, W]."""
        # Down to a quarter of the side.
        fine = self.fine(pixels)
        middle = self.middle(F.max_pool2d(fine, 2))
        coarse = self.coarse(F.max_pool2d(middle, 2))

        # Up again, with what each level saw on the way down.
        x = self.up_middle(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], dim=1))
        x = self.up_fine(torch.cat([F.interpolate(x, scale_factor=2.0), fine], dim=1))
        logits: Tensor = self.head(x)[:, 0]
        return logits


def build_classifier(width: int, seed: int = 0) -> Classifier:
    """Build an untrained classifier."""
    torch.manual_seed(seed)
    model = Classifier(width)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def build_segmenter(width: int, seed: int = 0) -> Segmenter:
    """Build an untrained segmenter."""
    torch.manual_seed(seed)
    model = Segmenter(width)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def train_classifier(
    images: NDArray[np.uint8],
    labels_N3: NDArray[np.int16],
    settings: JudgeSettings,
    seed: int,
    saved: Saved,
    observe: Observe,
) -> Classifier:
    """Train on pictures [N, H, W, 3] with labels [N, 3] by cross-entropy; return the averaged weights, frozen.

    `saved`: a state to resume from. Errors: TrainingError.
    """
    model = build_classifier(settings.classifier_width, seed)
    learner = Learner({"classifier": model}, settings.ema_decay)

    def loss_at(step: int) -> Tensor:
        # Draw pictures and make them less crisp.
        draws = numpy_draws(seed, step)
        rows = draws.integers(len(images), size=settings.batch)
        pixels = degrade(to_tensor(_flip(images[rows], draws)), torch_draws(seed, step))
        return _label_loss(model(pixels), labels_N3[rows])

    steps = settings.classifier_steps
    rate = warm_up_then_cosine(settings.learning_rate, steps, steps // 20)
    learn_steps(learner, steps, loss_at, rate, saved, observe)

    # The averaged weights are the result.
    learner.load_average()
    return model.eval().requires_grad_(False)


def train_segmenter(
    images: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    settings: JudgeSettings,
    seed: int,
    saved: Saved,
    observe: Observe,
) -> Segmenter:
    """Train on pictures [N, H, W, 3] with masks [N, H, W]; return the averaged weights, frozen.

    The loss is the pixels' cross-entropy plus the soft Dice loss. `saved`: a state to resume from. Errors:
    TrainingError.
    """
    model = build_segmenter(settings.segmenter_width, seed)
    learner = Learner({"segmenter": model}, settings.ema_decay)

    def loss_at(step: int) -> Tensor:
        # Draw pictures and make them less crisp.
        draws = numpy_draws(seed, step)
        rows = draws.integers(len(images), size=settings.batch)
        logits = model(degrade(to_tensor(images[rows]), torch_draws(seed, step)))
        return _mask_loss(logits, torch.from_numpy(np.array(masks[rows], dtype=np.float32)))

    steps = settings.segmenter_steps
    rate = warm_up_then_cosine(settings.learning_rate, steps, steps // 20)
    learn_steps(learner, steps, loss_at, rate, saved, observe)

    # The averaged weights are the result.
    learner.load_average()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def classify(model: Classifier, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return positions in PARTS, MATERIALS and SURFACES, [N, 3], of pictures [N, H, W, 3]."""
    # The likeliest class of each head.
    found = [
        torch.stack([head.argmax(1) for head in _split_heads(model(to_tensor(images[at : at + BATCH])))], dim=1)
        for at in range(0, len(images), BATCH)
    ]
    return torch.cat(found).numpy()


@torch.no_grad()
def segment(model: Segmenter, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return masks of the part, [N, H, W], in pictures [N, H, W, 3]."""
    # A logit above 0 means more likely part than not.
    found = [model(to_tensor(images[at : at + BATCH])) > 0 for at in range(0, len(images), BATCH)]
    return torch.cat(found).numpy()


def mean_overlap(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the mean intersection over union of masks [N, H, W]; two empty masks agree fully."""
    # Where both masks are empty the union is 0 and the overlap counts as 1.
    both = (found & truth).sum((1, 2))
    either = (found | truth).sum((1, 2))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


def _label_loss(logits: Tensor, labels_N3: NDArray[np.int16]) -> Tensor:
    """Return the sum of the cross-entropies of part, material and surface, a scalar."""
    targets = torch.from_numpy(np.array(labels_N3, dtype=np.int64))
    total = logits.new_zeros(())
    for head, target in zip(_split_heads(logits), targets.T, strict=True):
        total = total + F.cross_entropy(head, target)
    return total


def _mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the pixels' cross-entropy plus the soft Dice loss of logits and masks [B, H, W], a scalar."""
    # Soft Dice: twice the overlap over the sum of both areas, one pixel added against a division by zero.
    found = logits.sigmoid()
    overlap = 2 * (found * target).sum((1, 2)) / ((found + target).sum((1, 2)) + 1)
    loss: Tensor = F.binary_cross_entropy_with_logits(logits, target) + (1 - overlap).mean()
    return loss


def _split_heads(logits: Tensor) -> tuple[Tensor, ...]:
    """Return the logits of part, material and surface, each [N, classes]."""
    return torch.split(logits, [len(PARTS), len(MATERIALS), len(SURFACES)], dim=1)


def _flip(images: NDArray[np.uint8], draws: np.random.Generator) -> NDArray[np.uint8]:
    """Return the batch [B, H, W, 3], mirrored as a whole or not."""
    return images[:, :, ::-1] if draws.random() < 0.5 else images
