"""Train one classifier of an evaluation, and keep the weights of the step that validation prefers.

Every draw comes from the seed and the step. With one thread a training has the same bits on the same machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tailforge.schemas.evaluation import Augmentation, FitSettings
from tailforge.tasks.methods.classifiers.train import Pictures, SgdLearner
from tailforge.tasks.methods.evaluation.adjust import Check, choose_check, list_checks
from tailforge.tasks.methods.evaluation.augmentations import AugmentedViews
from tailforge.tasks.methods.evaluation.draws import RowsAt
from tailforge.tasks.methods.evaluation.networks import build_network
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.training_loop import Trainable, learn_steps, warm_up_then_cosine

MEASURED = 256  # images per pass of a measurement
GREY, SPREAD = 0.5, 0.25  # mean and deviation for every arm, so that no arm learns them from its images

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Fitted:
    """A trained classifier. `checks`: all measurements on validation; `chosen`: the one whose weights are kept."""

    checks: list[Check]
    chosen: Check
    weights: State


def fit_classifier(
    pool: Pictures,
    rows_at: RowsAt,
    validation: Pictures,
    counts: Sequence[int],
    strengths: Sequence[float],
    augmentation: Augmentation,
    settings: FitSettings,
    seed: int,
) -> Fitted:
    """Train a classifier and return what validation chose of it.

    `rows_at` maps a step to the rows of `pool` that it sees. `counts`: real training images per class. `strengths`: of
    the adjustments that are tried. Errors: TrainingError if the loss is not finite.
    """
    # One network per seed, whatever the arm.
    height, width, channels = pool.images.shape[1:]
    network = build_network(settings.model, len(counts), channels, seed)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = SgdLearner(network, settings.weight_decay, settings.steps)
    views, scale = AugmentedViews(height, width, augmentation), _scale(channels)

    def loss_at(step: int) -> Tensor:
        # One augmented view of each image of the step's batch.
        rows = rows_at(step)
        images = scale.from_pixels(views.draw(pool.images[rows], seed, step))
        return F.cross_entropy(network(images), torch.from_numpy(pool.labels[rows]))

    # Measure on validation at the end and at equal distances before it.
    logits: dict[int, Floats] = {}
    weights: dict[int, State] = {}
    due = set(list_check_steps(settings))

    def observe(trained: Trainable, loss: float) -> None:
        if trained.step in due:
            logits[trained.step] = predict_logits(network, validation.images)
            weights[trained.step] = {key: value.clone() for key, value in network.state_dict().items()}

    rate = warm_up_then_cosine(settings.learning_rate, settings.steps, settings.steps // 20)
    learn_steps(learner, settings.steps, loss_at, rate, None, observe)

    # The weights of the step that validation prefers are kept, the others are dropped.
    checks = list_checks(logits, validation.labels, counts, strengths)
    chosen = choose_check(checks)
    return Fitted(checks, chosen, weights[chosen.step])


def list_check_steps(settings: FitSettings) -> list[int]:
    """Return the steps after which a model is measured on validation: equal distances, the last at the end."""
    # A set, since short trainings may round two checks to one step.
    return sorted({round(settings.steps * (each + 1) / settings.checks) for each in range(settings.checks)})


@torch.no_grad()
def predict_logits(network: nn.Module, images: Pixels) -> Floats:
    """Return logits [N, classes] of images [N, H, W, C], rounded to six digits; a training network goes on training."""
    # Parts of MEASURED images bound the memory.
    was_training, scale = network.training, _scale(images.shape[-1])
    network.eval()
    parts = [network(scale.from_pixels(images[at : at + MEASURED])) for at in range(0, len(images), MEASURED)]
    network.train(was_training)
    return np.round(torch.cat(parts).double().numpy(), 6)


def _scale(channels: int) -> PixelScale:
    return PixelScale([GREY] * channels, [SPREAD] * channels, torch.device("cpu"))


def use_one_thread() -> None:
    """Make torch compute on one thread, as equal bits need. Several trainings then share the processor's cores."""
    torch.set_num_threads(1)
