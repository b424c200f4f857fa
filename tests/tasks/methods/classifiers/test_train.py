"""The training loop of classifiers: rows and views follow from the step, toys are learnt, a stop changes no bit."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tailforge.schemas.errors import TrainingError
from tailforge.schemas.training.classifiers import ClassifierTraining, DistillSettings, TeacherModel
from tailforge.tasks.methods.classifiers.networks import STUDENTS, build_student, build_teacher
from tailforge.tasks.methods.classifiers.train import Classifier, draw_rows, label_loss, predict, train_on_views
from tailforge.tasks.methods.classifiers.views import Views
from tests.support.tiny_pictures import NAMES, SCALE, SIDE, no_watch, toy_pictures

SETTINGS = ClassifierTraining(steps=40, batch=32, learning_rate=0.05, padding=1, seed=3)


def tiny(architecture: str = "resnet", seed: int = 0) -> Classifier:
    return build_teacher(TeacherModel(architecture=architecture, widths=(16, 16), depths=(1, 1)), NAMES, 3, seed)


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 99), st.integers(1, 8))
def test_every_epoch_takes_every_row_once(count: int, batch: int, seed: int, steps: int) -> None:
    rows = np.concatenate([draw_rows(count, batch, seed, step) for step in range(steps)])
    assert len(rows) == steps * batch
    whole = len(rows) // count * count
    assert all(sorted(epoch) == list(range(count)) for epoch in rows[:whole].reshape(-1, count).tolist())


def test_views_follow_from_seed_and_step() -> None:
    images = toy_pictures(24, seed=0).images
    views = Views(SIDE, SIDE, padding=2, flip=True)
    first, later = views.draw(images, 5, 0), views.draw(images, 5, 1)
    assert np.array_equal(Views(SIDE, SIDE, padding=2, flip=True).draw(images, 5, 0), first)
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, views.draw(images, 6, 0))
    assert np.array_equal(Views(SIDE, SIDE, padding=0, flip=False).draw(images, 5, 0), images)


def test_a_view_is_a_window_of_the_reflected_image_mirrored_in_half_of_the_cases() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 1), np.uint8)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    windows = {padded[y : y + 6, x : x + 5].tobytes(): (y, x) for y in range(3) for x in range(3)}
    mirrored = {padded[y : y + 6, x : x + 5][:, ::-1].tobytes(): (y, x) for y in range(3) for x in range(3)}
    drawn = Views(6, 5, padding=1, flip=True).draw(np.repeat(image[None], 900, 0), 1, 0)
    flips = [view.tobytes() in mirrored for view in drawn]
    places = [(mirrored if flip else windows)[view.tobytes()] for view, flip in zip(drawn, flips, strict=True)]
    assert 390 < sum(flips) < 510
    assert all(60 < places.count(place) < 140 for place in windows.values())
    centre = [flip for place, flip in zip(places, flips, strict=True) if place == (0, 0)]
    assert 0.25 < np.mean(centre) < 0.75  # crop and mirror are drawn apart


@pytest.mark.parametrize("architecture", ["resnet", "regnet", "cifar_resnet"])
def test_every_architecture_learns_the_toy(architecture: str) -> None:
    classifier, test = tiny(architecture), toy_pictures(90, seed=2)
    losses = train_on_views(classifier, toy_pictures(300, seed=1), SCALE, SETTINGS, label_loss, None, no_watch)
    assert losses.shape == (40,)
    assert losses[-5:].mean() < losses[:5].mean() / 3
    assert (predict(classifier.logits, test.images, SCALE) == test.labels).mean() > 0.95
    assert not classifier.module.training
    assert not any(value.requires_grad for value in classifier.module.parameters())


def test_half_precision_passes_learn_in_single_precision_weights() -> None:
    settings = SETTINGS.model_copy(update={"bf16": True, "steps": 10})
    classifiers = [tiny(), tiny()]
    for classifier, chosen in zip(classifiers, (settings, settings.model_copy(update={"bf16": False})), strict=True):
        train_on_views(classifier, toy_pictures(64, seed=1), SCALE, chosen, label_loss, None, no_watch)
    half, single = (dict(classifier.module.named_parameters()) for classifier in classifiers)
    assert all(value.dtype == torch.float32 for value in half.values())
    assert any(not torch.equal(half[key], single[key]) for key in half)
    assert max(float((half[key] - single[key]).abs().max()) for key in half) < 0.2


def test_a_stopped_and_restored_run_has_the_same_bits() -> None:
    pictures = toy_pictures(100, seed=1)
    settings = SETTINGS.model_copy(update={"steps": 9, "flip": True})
    whole, again = tiny(), tiny(seed=7)  # the restored run owes nothing to how it was made
    states: list[dict[str, Tensor]] = []

    def keep(learner: Any, loss: float) -> None:
        if learner.step == 4:
            states.append({key: value.clone() for key, value in learner.state().items()})

    losses = train_on_views(whole, pictures, SCALE, settings, label_loss, None, keep)
    other = train_on_views(again, pictures, SCALE, settings, label_loss, states[0], no_watch)
    assert losses.tobytes() == other.tobytes()
    for key, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[key]), key


def test_a_state_of_another_network_is_refused() -> None:
    states: list[dict[str, Tensor]] = []
    settings = SETTINGS.model_copy(update={"steps": 1})
    arguments = (toy_pictures(32, seed=1), SCALE, settings, label_loss)
    train_on_views(tiny(), *arguments, None, lambda learner, loss: states.append(learner.state()))
    with pytest.raises(TrainingError, match="does not fit the model"):
        train_on_views(tiny("cifar_resnet"), *arguments, states[0], no_watch)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    def broken(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return logits.sum() * math.nan

    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        train_on_views(tiny(), toy_pictures(32, seed=1), SCALE, SETTINGS, broken, None, no_watch)


@pytest.mark.parametrize("preset", sorted(STUDENTS))
@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (16, 20))])
def test_students_take_the_teachers_classes_channels_and_size(
    preset: str, channels: int, size: tuple[int, int]
) -> None:
    assert DistillSettings.model_validate({"student": preset}).student == preset
    student = build_student(preset, NAMES, channels, size, seed=0)
    student.module.eval()
    with torch.no_grad():
        assert student.logits(torch.zeros(2, channels, *size)).shape == (2, len(NAMES))
    assert student.module.config.id2label == dict(enumerate(NAMES))
    assert student.enlarge == STUDENTS[preset].enlarge
    assert build_student(preset, NAMES, channels, (224, 224), seed=0).enlarge == 1
