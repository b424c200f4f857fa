"""Training: equal seeds give equal bits, and the kept weights are those of the chosen step."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tailforge.schemas.evaluation import Augmentation, FitSettings
from tailforge.tasks.methods.evaluation.adjust import adjust_logits
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.evaluation.fit import Fitted, Validation, fit_model, list_check_steps
from tailforge.tasks.methods.evaluation.metrics import confusion_matrix, recall_per_class
from tailforge.tasks.methods.evaluation.models import predict_parts, preset_model
from tailforge.tasks.methods.evaluation.tasks import TASKS
from tests.support.tiny_shapes import draw_shape

SETTINGS = FitSettings(steps=6, batch=8, checks=3, learning_rate=0.05)
COUNTS = (6, 6)
TASK = TASKS["classification"]
MODEL = preset_model("residual-small", TASK.presets["residual-small"], 1)


def pictures(first: int) -> Examples:
    images = [draw_shape(shape, first + n)[..., :1] for shape in ("bar", "stripe") for n in range(6)]
    return Examples(np.stack(images), np.repeat([0, 1], 6), 2)


def fit(seed: int = 0, settings: FitSettings = SETTINGS) -> Fitted:
    train = pictures(0)

    def rows_at(step: int) -> np.ndarray:
        return np.random.default_rng(step).integers(0, len(train), settings.batch)

    validation = Validation(pictures(100), COUNTS, (0.0, 0.5))
    return fit_model(MODEL, TASK, train, rows_at, validation, Augmentation(), settings, seed)


def test_equal_seeds_give_equal_bits() -> None:
    first, second, other = fit(), fit(), fit(seed=1)
    assert first.checks == second.checks
    assert all(torch.equal(value, second.weights[key]) for key, value in first.weights.items())
    assert any(not torch.equal(value, other.weights[key]) for key, value in first.weights.items())


def test_trainings_side_by_side_have_the_bits_of_one_alone() -> None:
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(fit, [0, 1, 0, 1]))
    alone = [fit(0), fit(1)]
    for number, each in enumerate(found):
        other = alone[number % 2].weights
        assert all(torch.equal(value, other[key]) for key, value in each.weights.items())


def test_the_kept_weights_are_those_of_the_chosen_step() -> None:
    fitted, validation = fit(), pictures(100)
    network = MODEL.build(2, 9)
    network.load_state_dict(fitted.weights)
    ((_, logits),) = predict_parts(network, MODEL, validation, 100)
    found = adjust_logits(logits, COUNTS, fitted.chosen.strength).argmax(1)
    scores = recall_per_class(confusion_matrix(found, validation.label(slice(None)), 2))
    assert tuple(scores) == fitted.chosen.scores
    assert fitted.chosen.macro == max(each.macro for each in fitted.checks)


def test_checks_are_at_equal_distances_and_at_the_end() -> None:
    assert list_check_steps(SETTINGS) == [2, 4, 6]
    assert list_check_steps(FitSettings(steps=400)) == [80, 160, 240, 320, 400]


def test_the_small_network_has_about_300_000_weights_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    network = MODEL.build(12, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(300_000, rel=0.05)
    for height, width in ((16, 16), (40, 24), (64, 64)):
        assert network(torch.zeros(2, 1, height, width)).shape == (2, 12)
