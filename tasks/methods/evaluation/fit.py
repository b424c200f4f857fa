"""Train one model of an evaluation, and keep the weights of the step that validation prefers.

Every draw comes from the seed and the step. With one thread a training has the same bits on the same machine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tailforge.schemas.evaluation import Augmentation, FitSettings
from tailforge.tasks.methods.classifiers.train import SgdLearner
from tailforge.tasks.methods.evaluation.adjust import Check, choose_check
from tailforge.tasks.methods.evaluation.augmentations import AugmentedViews
from tailforge.tasks.methods.evaluation.draws import RowsAt
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.evaluation.models import Model, count_found
from tailforge.tasks.methods.evaluation.task import Task
from tailforge.tasks.methods.training_loop import Learner, Trainable, learn_steps, warm_up_then_cosine

State = dict[str, Tensor]


def _learn_by_sgd(network: nn.Module, settings: FitSettings) -> Trainable:
    return SgdLearner(network, settings.weight_decay, settings.steps)


def _learn_by_adamw(network: nn.Module, settings: FitSettings) -> Trainable:
    # Without a decay the moving average is the weights themselves.
    return Learner({"network": network}, 0.0, settings.weight_decay)


LEARNERS: Mapping[str, Callable[[nn.Module, FitSettings], Trainable]] = {
    "sgd": _learn_by_sgd,
    "adamw": _learn_by_adamw,
}


@dataclass(frozen=True)
class Validation:
    """Images that choose the step and the strength of an adjustment by the real `frequencies` of classes."""

    examples: Examples
    frequencies: Sequence[int]
    strengths: Sequence[float]


@dataclass(frozen=True)
class Fitted:
    """A trained model. `checks`: all measurements on validation; `chosen`: the one whose weights are kept."""

    checks: list[Check]
    chosen: Check
    weights: State


def fit_model(
    model: Model,
    task: Task,
    pool: Examples,
    rows_at: RowsAt,
    validation: Validation,
    augmentation: Augmentation,
    settings: FitSettings,
    seed: int,
) -> Fitted:
    """Train a model and return what validation chose of it.

    `rows_at` maps a step to the rows of `pool` that it sees. Errors: TrainingError if the loss is not finite.
    """
    # One network per seed, whatever the arm.
    height, width = pool.images.shape[1:3]
    network = model.build(pool.classes, seed)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = LEARNERS[settings.optimizer](network.train(), settings)
    views, scale = AugmentedViews(height, width, augmentation), model.scale

    def loss_at(step: int) -> Tensor:
        # One augmented view of each image of the step's batch.
        batch = views.draw(pool.select(rows_at(step)), seed, step)
        return task.loss(network(scale.from_pixels(batch.images)), torch.from_numpy(batch.label(slice(None))))

    # Measure on validation at the end and at equal distances before it.
    checks: list[Check] = []
    weights: dict[int, State] = {}
    due = set(list_check_steps(settings))

    def observe(trained: Trainable, loss: float) -> None:
        if trained.step in due:
            checks.extend(_check(network, model, task, validation, trained.step))
            weights[trained.step] = {key: value.clone() for key, value in network.state_dict().items()}

    rate = warm_up_then_cosine(settings.learning_rate, settings.steps, settings.steps // 20)
    learn_steps(learner, settings.steps, loss_at, rate, None, observe)

    # The weights of the step that validation prefers are kept, the others are dropped.
    chosen = choose_check(checks)
    return Fitted(checks, chosen, weights[chosen.step])


def _check(network: nn.Module, model: Model, task: Task, validation: Validation, step: int) -> list[Check]:
    """Return the measurements of a network at a step, one per strength of the adjustment."""
    # Every pair of step and strength is one candidate.
    frequencies, strengths = validation.frequencies, validation.strengths
    counts = count_found(network, model, task, validation.examples, frequencies, strengths)
    return [Check(step, strength, tuple(task.scores(counts[strength]).tolist())) for strength in strengths]


def list_check_steps(settings: FitSettings) -> list[int]:
    """Return the steps after which a model is measured on validation: equal distances, the last at the end."""
    # A set, since short trainings may round two checks to one step.
    return sorted({round(settings.steps * (each + 1) / settings.checks) for each in range(settings.checks)})


def use_one_thread() -> None:
    """Make torch compute on one thread, as equal bits need. Several trainings then share the processor's cores."""
    torch.set_num_threads(1)
