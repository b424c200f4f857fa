"""Train classifiers with BatchNorm: SGD with momentum, cosine schedule, augmented views.

Teachers and students differ only in the loss. A restored run continues exactly as if it had never stopped: its state
holds weights, BatchNorm buffers, momentum and losses, and every draw of a step comes from (seed, step).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tailforge.schemas.training.classifiers import ClassifierTraining
from tailforge.tasks.methods.classifiers.views import Pixels, Views
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.training_loop import Observe, State, descend, restore, run_steps, warm_up_then_cosine

VERSION = "classifier.1"
MOMENTUM = 0.9
PREDICTED = 256  # images in one pass when nothing is learnt
EPOCH_STREAM = 1  # keeps the order of an epoch apart from the views of the step of the same number

Classes = NDArray[np.int64]
LossOf = Callable[[Tensor, Tensor, Tensor], Tensor]  # logits, normalised images, labels


@dataclass(frozen=True)
class Pictures:
    """Labelled images: uint8 [N, height, width, channels] and int64 [N]."""

    images: Pixels
    labels: Classes

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Classifier:
    """A network and how many times larger in each direction it sees an image, every pixel repeated."""

    module: nn.Module
    enlarge: int = 1

    def logits(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of normalised images [N, channels, height, width]."""
        if self.enlarge > 1:
            images = images.repeat_interleave(self.enlarge, 2).repeat_interleave(self.enlarge, 3)
        output = self.module(images)
        logits: Tensor = getattr(output, "logits", output)
        return logits


class SgdLearner:
    """A module with SGD; `losses` [steps] holds the loss of every step so far, NaN for those ahead."""

    def __init__(self, module: nn.Module, weight_decay: float, steps: int) -> None:
        self.step = 0
        self.losses = torch.full((steps,), math.nan)
        self._module = module
        self._parameters = dict(module.named_parameters())
        self._optimizer = torch.optim.SGD(
            self._parameters.values(), lr=0.0, momentum=MOMENTUM, weight_decay=weight_decay
        )
        for value in self._parameters.values():  # SGD fills these in late; a saved run needs them from step 0
            self._optimizer.state[value]["momentum_buffer"] = torch.zeros_like(value)

    def learn(self, loss: Tensor, learning_rate: float) -> float:
        """Take one optimiser step and return the loss. Errors: TrainingError if the loss is not finite."""
        value = descend(self._optimizer, loss, self.step, learning_rate)
        self.losses[self.step] = value
        self.step += 1
        return value

    def state(self) -> State:
        """Return everything that `restore` needs, as flat tensors."""
        # BatchNorm buffers are part of the module's state, the momentum is the optimiser's.
        saved = {"step": torch.tensor(self.step), "losses": self.losses}
        saved |= {f"model/{key}": value for key, value in self._module.state_dict().items()}
        for key, value in self._parameters.items():
            saved[f"momentum/{key}"] = self._optimizer.state[value]["momentum_buffer"]
        return saved


def train_on_views(
    classifier: Classifier,
    pictures: Pictures,
    scale: PixelScale,
    settings: ClassifierTraining,
    loss_of: LossOf,
    saved: Mapping[str, Tensor] | None,
    observe: Observe,
) -> NDArray[np.float32]:
    """Train in place on the device of `scale`, from `saved` on; the module is frozen afterwards. Returns the losses.

    Errors: TrainingError if the loss is not finite or `saved` is of another module.
    """
    classifier.module.train()
    classifier.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs
    learner = SgdLearner(classifier.module, settings.weight_decay, settings.steps)
    if saved:
        restore(learner, saved)
    height, width = pictures.images.shape[1:3]
    views = Views(height, width, settings.padding, settings.flip)
    device = scale.mean.device

    # One augmented view of each image of the step's batch.
    def loss_at(step: int) -> Tensor:
        rows = draw_rows(len(pictures), settings.batch, settings.seed, step)
        images = scale.from_pixels(views.draw(pictures.images[rows], settings.seed, step))
        labels = torch.from_numpy(pictures.labels[rows]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
            return loss_of(classifier.logits(images), images, labels)

    rate = warm_up_then_cosine(settings.learning_rate, settings.steps, settings.steps // 20)
    run_steps(learner, settings.steps, loss_at, rate, observe)
    classifier.module.eval().requires_grad_(False)
    losses: NDArray[np.float32] = learner.losses.numpy()
    return losses


def draw_rows(count: int, batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """Return the rows of a step's batch, [batch]: every epoch takes each of `count` rows once, in its own order."""
    # A batch may reach over the end of an epoch.
    first = step * batch
    epochs = range(first // count, (first + batch - 1) // count + 1)
    order = [np.random.default_rng((seed, EPOCH_STREAM, epoch)).permutation(count) for epoch in epochs]
    start = first - epochs[0] * count
    return np.concatenate(order)[start : start + batch]


def label_loss(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of logits [N, classes] with labels [N]: the loss of a teacher."""
    return F.cross_entropy(logits.float(), labels)


@torch.no_grad()
def predict(logits_of: Callable[[Tensor], Tensor], images: Pixels, scale: PixelScale) -> Classes:
    """Return the likeliest class of every image, [N]; the network must be in eval mode."""
    parts = (images[at : at + PREDICTED] for at in range(0, len(images), PREDICTED))
    return torch.cat([logits_of(scale.from_pixels(part)).argmax(1).cpu() for part in parts]).numpy()
