"""Train classifiers with BatchNorm: SGD with momentum, cosine schedule, augmented views.

Teachers and students differ only in the loss. A restored run continues exactly as if it had never stopped. Its state
holds weights, BatchNorm buffers, momentum and losses, and every draw of a step comes from (seed, step).

Letters of shapes: N images, C channels, H and W rows and columns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tailforge.schemas.training.classifiers import ClassifierTraining
from tailforge.tasks.methods.classifiers.pictures import Classes, Pictures, Pixels
from tailforge.tasks.methods.classifiers.views import Views
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.training_loop import Observe, Saved, State, descend, learn_steps, warm_up_then_cosine

VERSION = "classifier.1"
MOMENTUM = 0.9
PREDICTED = 256  # images per pass of a prediction
EPOCH_STREAM = 1  # separates the random numbers of epoch k from those of step k

# Maps logits [N, classes], normalised images [N, C, H, W] and labels [N] to the loss, a scalar.
LossOf = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Classifier:
    """A network, and the factor `enlarge` by which images grow in each direction before it reads them."""

    module: nn.Module
    enlarge: int = 1

    def logits(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of normalised images [N, C, H, W]."""
        # Repeat every pixel. Networks of transformers return an object with logits, other networks the logits.
        if self.enlarge > 1:
            images = images.repeat_interleave(self.enlarge, 2).repeat_interleave(self.enlarge, 3)
        output = self.module(images)
        logits: Tensor = getattr(output, "logits", output)
        return logits


class SgdLearner:
    """A module in training with SGD. `losses` [steps] holds the losses so far, and NaN for steps ahead."""

    def __init__(self, module: nn.Module, weight_decay: float, steps: int) -> None:
        self.step = 0
        self.losses = torch.full((steps,), math.nan)
        self._module = module
        self._parameters = dict(module.named_parameters())
        self._optimizer = torch.optim.SGD(
            self._parameters.values(), lr=0.0, momentum=MOMENTUM, weight_decay=weight_decay
        )

        # PyTorch creates the momentum in the first step; a saved run needs it from step 0.
        for value in self._parameters.values():
            self._optimizer.state[value]["momentum_buffer"] = torch.zeros_like(value)

    def learn(self, loss: Tensor, learning_rate: float) -> float:
        """Make one optimiser step on a loss (scalar) and return its value.

        Errors: TrainingError if the loss is not finite.
        """
        value = descend(self._optimizer, loss, self.step, learning_rate)
        self.losses[self.step] = value
        self.step += 1
        return value

    def state(self) -> State:
        """Return the state that `restore` reads: tensors by flat names, in the parameters' own shapes."""
        # The module's state includes the BatchNorm buffers. The optimiser holds the momentum.
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
    saved: Saved,
    observe: Observe,
) -> NDArray[np.float32]:
    """Train a classifier in place from the state `saved` on, freeze it, and return its losses [steps].

    Training runs on the device of `scale`. `saved`: tensors by the names and in the shapes of `SgdLearner.state`.
    Errors: TrainingError if the loss is not finite or `saved` belongs to another module.
    """
    # Continue from the saved state, if there is one.
    classifier.module.train()
    classifier.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs
    learner = SgdLearner(classifier.module, settings.weight_decay, settings.steps)

    # Random views of the images, drawn per step.
    height, width = pictures.images.shape[1:3]
    views = Views(height, width, settings.padding, settings.flip)
    device = scale.mean.device

    def loss_at(step: int) -> Tensor:
        # One augmented view of each image of the step's batch.
        rows = draw_rows(len(pictures), settings.batch, settings.seed, step)
        images = scale.from_pixels(views.draw(pictures.images[rows], settings.seed, step))
        labels = torch.from_numpy(pictures.labels[rows]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
            return loss_of(classifier.logits(images), images, labels)

    # The learning rate rises over a twentieth of the steps.
    rate = warm_up_then_cosine(settings.learning_rate, settings.steps, settings.steps // 20)
    learn_steps(learner, settings.steps, loss_at, rate, saved, observe)
    classifier.module.eval().requires_grad_(False)
    losses: NDArray[np.float32] = learner.losses.numpy()
    return losses


def draw_rows(count: int, batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """Return the rows [batch] of a step's batch. Every epoch holds each of `count` rows once, in its own order."""
    # A batch may begin in one epoch and end in another.
    first = step * batch
    epochs = range(first // count, (first + batch - 1) // count + 1)
    order = [np.random.default_rng((seed, EPOCH_STREAM, epoch)).permutation(count) for epoch in epochs]
    start = first - epochs[0] * count
    return np.concatenate(order)[start : start + batch]


def label_loss(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of a teacher: the cross entropy of logits [N, classes] with labels [N], a scalar."""
    return F.cross_entropy(logits.float(), labels)


@torch.no_grad()
def predict(logits_of: Callable[[Tensor], Tensor], images: Pixels, scale: PixelScale) -> Classes:
    """Return the likeliest classes [N] of images [N, H, W, C]. The network must be in evaluation mode."""
    # Parts of PREDICTED images bound the memory.
    parts = (images[at : at + PREDICTED] for at in range(0, len(images), PREDICTED))
    return torch.cat([logits_of(scale.from_pixels(part)).argmax(1).cpu() for part in parts]).numpy()
