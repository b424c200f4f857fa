"""Build the models of an evaluation with weights that a seed decides, and measure them on images.

Letters of shapes: N images, K classes, n units: images, or pixels of masks.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailforge.tasks.methods.evaluation.adjust import adjust_logits
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.evaluation.metrics import confusion_matrix
from tailforge.tasks.methods.evaluation.task import Habits, Preset, Task
from tailforge.tasks.methods.natural_inversion.saving import PixelScale

GREY, SPREAD = 0.5, 0.25  # mean and deviation of presets for every arm, so that no arm learns them from its images

Floats = NDArray[np.float64]

_generator = threading.Lock()  # held while weights are drawn


@dataclass(frozen=True)
class Model:
    """A network that an evaluation trains. `name`: for people; `digest`: of its files, empty for a preset.

    `build(classes, seed)` returns it with its first weights. `mean` and `std`: per channel, for pixels in 0..1.
    """

    name: str
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    habits: Habits
    build: Callable[[int, int], nn.Module]

    @property
    def scale(self) -> PixelScale:
        """Return the conversion of pixels to the network's input."""
        return PixelScale(self.mean, self.std, torch.device("cpu"))


def preset_model(name: str, preset: Preset, channels: int) -> Model:
    """Return the model of a preset for images of 1 or 3 channels. Equal seeds and classes give equal weights."""

    def build(classes: int, seed: int) -> nn.Module:
        with seeded_weights(seed):
            return preset.build(classes, channels)

    return Model(name, "", (GREY,) * channels, (SPREAD,) * channels, preset.habits, build)


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Make torch draw first weights by a seed inside the block, for one thread at a time."""
    # Layers draw from the process's generator, which is put back.
    with _generator, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def predict_parts(network: nn.Module, model: Model, examples: Examples, part: int) -> Iterator[tuple[slice, Floats]]:
    """Yield rows and logits [N, K, ...] of `part` images at a time, rounded to six digits.

    A training network goes on training. Logits of masks have the images' sides.
    """
    # BatchNorm reads its running statistics.
    was_training, scale = network.training, model.scale
    network.eval()
    for start in range(0, len(examples), part):
        rows = slice(start, start + part)
        logits: Tensor = network(scale.from_pixels(examples.images[rows]))
        yield rows, np.round(logits.double().numpy(), 6)
    network.train(was_training)


def count_found(
    network: nn.Module,
    model: Model,
    task: Task,
    examples: Examples,
    frequencies: Sequence[int],
    strengths: Sequence[float],
) -> Mapping[float, NDArray[np.int64]]:
    """Return counts [K, K] by label and class found, for every strength of the adjustment by `frequencies` [K]."""
    # One pass of the network serves all strengths.
    size = len(frequencies)
    counts = {strength: np.zeros((size, size), np.int64) for strength in strengths}
    for rows, logits in predict_parts(network, model, examples, task.part):
        labels = examples.label(rows)
        for strength in strengths:
            found = adjust_logits(logits, frequencies, strength).argmax(1)
            counts[strength] += confusion_matrix(found, labels, size)
    return counts
