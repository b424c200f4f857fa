"""Independent judges of generated pictures: a classifier of part, material and surface, and a part segmenter.

They are trained on balanced renders and measure benchmarks alone: no guide and no filter may use them. Blur, noise and
contrast changes in training make them read pictures that are less crisp than renders.
"""

from collections.abc import Mapping

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
    degrade,
    numpy_draws,
    restore,
    run_steps,
    torch_draws,
    warm_up_then_cosine,
)
from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES

VERSION = "judges.1"
BATCH = 128


class Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.first_norm = nn.GroupNorm(8, outputs)
        self.second_norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        out: Tensor = F.silu(y + self.shortcut(x))
        return out


class Classifier(nn.Module):
    """Logits of part, material and surface, side by side: [N, 12 + 6 + 5]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sides = (width, 2 * width, 3 * width, 4 * width)
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList([Block(a, b) for a, b in zip((width, *sides[:-1]), sides, strict=True)])
        self.head = nn.Linear(sides[-1], len(PARTS) + len(MATERIALS) + len(SURFACES))

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.avg_pool2d(F.silu(self.stem(pixels)), 2)
        for number, block in enumerate(self.blocks):
            x = block(F.max_pool2d(x, 2) if number else x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class Segmenter(nn.Module):
    """A small U-Net: logit of "part" at each pixel, [N, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = Block(3, width)
        self.middle = Block(width, 2 * width)
        self.coarse = Block(2 * width, 2 * width)
        self.up_middle = Block(4 * width, width)
        self.up_fine = Block(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        fine = self.fine(pixels)
        middle = self.middle(F.max_pool2d(fine, 2))
        coarse = self.coarse(F.max_pool2d(middle, 2))
        x = self.up_middle(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], dim=1))
        x = self.up_fine(torch.cat([F.interpolate(x, scale_factor=2.0), fine], dim=1))
        logits: Tensor = self.head(x)[:, 0]
        return logits


def build_classifier(width: int, seed: int = 0) -> Classifier:
    """An untrained classifier."""
    torch.manual_seed(seed)
    model = Classifier(width)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def build_segmenter(width: int, seed: int = 0) -> Segmenter:
    """An untrained segmenter."""
    torch.manual_seed(seed)
    model = Segmenter(width)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def train_classifier(
    images: NDArray[np.uint8],
    labels_N3: NDArray[np.int16],
    settings: JudgeSettings,
    seed: int,
    saved: Mapping[str, Tensor] | None,
    observe: Observe,
) -> Classifier:
    """Cross-entropy of the three heads; returns the averaged weights, frozen."""
    model = build_classifier(settings.classifier_width, seed)
    learner = Learner({"classifier": model}, settings.ema_decay)
    if saved:
        restore(learner, saved)

    def loss_at(step: int) -> Tensor:
        draws = numpy_draws(seed, step)
        rows = draws.integers(len(images), size=settings.batch)
        pixels = degrade(to_tensor(_flip(images[rows], draws)), torch_draws(seed, step))
        targets = torch.from_numpy(np.array(labels_N3[rows], dtype=np.int64))
        heads = _split_heads(model(pixels))
        total = pixels.new_zeros(())
        for head, target in zip(heads, targets.T, strict=True):
            total = total + F.cross_entropy(head, target)
        return total

    steps = settings.classifier_steps
    run_steps(learner, steps, loss_at, warm_up_then_cosine(settings.learning_rate, steps, steps // 20), observe)
    learner.load_average()
    return model.eval().requires_grad_(False)


def train_segmenter(
    images: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    settings: JudgeSettings,
    seed: int,
    saved: Mapping[str, Tensor] | None,
    observe: Observe,
) -> Segmenter:
    """Pixel cross-entropy plus the soft Dice loss; returns the averaged weights, frozen."""
    model = build_segmenter(settings.segmenter_width, seed)
    learner = Learner({"segmenter": model}, settings.ema_decay)
    if saved:
        restore(learner, saved)

    def loss_at(step: int) -> Tensor:
        draws = numpy_draws(seed, step)
        rows = draws.integers(len(images), size=settings.batch)
        logits = model(degrade(to_tensor(images[rows]), torch_draws(seed, step)))
        target = torch.from_numpy(np.array(masks[rows], dtype=np.float32))
        found = logits.sigmoid()
        overlap = 2 * (found * target).sum((1, 2)) / ((found + target).sum((1, 2)) + 1)
        loss: Tensor = F.binary_cross_entropy_with_logits(logits, target) + (1 - overlap).mean()
        return loss

    steps = settings.segmenter_steps
    run_steps(learner, steps, loss_at, warm_up_then_cosine(settings.learning_rate, steps, steps // 20), observe)
    learner.load_average()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def classify(model: Classifier, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions in PARTS, MATERIALS and SURFACES of uint8 pictures: [N, 3]."""
    found = [
        torch.stack([head.argmax(1) for head in _split_heads(model(to_tensor(images[at : at + BATCH])))], dim=1)
        for at in range(0, len(images), BATCH)
    ]
    return torch.cat(found).numpy()


@torch.no_grad()
def segment(model: Segmenter, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mask of the part in uint8 pictures: [N, H, W]."""
    found = [model(to_tensor(images[at : at + BATCH])) > 0 for at in range(0, len(images), BATCH)]
    return torch.cat(found).numpy()


def mean_overlap(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Mean over the pictures of intersection over union; two empty masks agree fully."""
    both = (found & truth).sum((1, 2))
    either = (found | truth).sum((1, 2))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


def _split_heads(logits: Tensor) -> tuple[Tensor, ...]:
    return torch.split(logits, [len(PARTS), len(MATERIALS), len(SURFACES)], dim=1)


def _flip(images: NDArray[np.uint8], draws: np.random.Generator) -> NDArray[np.uint8]:
    """The whole batch mirrored or not."""
    return images[:, :, ::-1] if draws.random() < 0.5 else images
