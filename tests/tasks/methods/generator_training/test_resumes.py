"""A training run that is stopped and resumed ends with the same bits as one that was not; and each trainer learns."""

import inspect
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from tailforge.schemas.errors import TrainingError
from tailforge.tasks.methods.embedded.autoencoder import train_autoencoder
from tailforge.tasks.methods.embedded.captions import every_word
from tailforge.tasks.methods.embedded.clip import train_clip, train_tokenizer, tune_image_tower
from tailforge.tasks.methods.embedded.diffusion import train_diffusion
from tailforge.tasks.methods.embedded.judges import train_classifier, train_segmenter
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.training_loop import Learner, Observe, State, learn_steps, restore
from tests.support.tiny_training import plain_pictures, tiny_settings

Train = Callable[[State | None, Observe], nn.Module]
IMAGES, MASKS, LABELS = plain_pictures(48)


class Stopped(Exception):
    """Stands for the kill of a run."""


@cache
def tokenizer():  # type: ignore[no-untyped-def]
    return train_tokenizer(every_word(), 700, 24)


def fit_autoencoder(saved: State | None, observe: Observe, steps: int = 4) -> nn.Module:
    recipe = tiny_settings(autoencoder__steps=steps)
    return train_autoencoder(IMAGES, recipe.autoencoder, recipe.seed, saved, observe)


def fit_clip(saved: State | None, observe: Observe, steps: int = 4) -> nn.Module:
    recipe = tiny_settings(clip__steps=steps)
    return train_clip(IMAGES, LABELS, tokenizer(), recipe.clip, recipe.seed, saved, observe)


def fit_image_tower(saved: State | None, observe: Observe, steps: int = 4) -> nn.Module:
    recipe = tiny_settings(clip__steps=1, clip__image_steps=steps)
    model = train_clip(IMAGES, LABELS, tokenizer(), recipe.clip, recipe.seed, None, lambda learner, loss: None)
    return tune_image_tower(model, IMAGES, LABELS, tokenizer(), recipe.clip, recipe.seed, saved, observe)


def fit_diffusion(saved: State | None, observe: Observe, steps: int = 4) -> nn.Module:
    recipe = tiny_settings()
    first, second = recipe.diffusion.phases
    phases = (first, second.model_copy(update={"steps": steps - first.steps}))
    settings = recipe.diffusion.model_copy(update={"phases": phases})
    latents = np.random.default_rng(1).normal(size=(len(IMAGES), 4, 8, 8)).astype(np.float32)
    return train_diffusion(latents, LABELS, spell, settings, recipe.seed, saved, observe)


def fit_classifier(saved: State | None, observe: Observe, steps: int = 4) -> nn.Module:
    recipe = tiny_settings(judges__classifier_steps=steps)
    return train_classifier(IMAGES, LABELS, recipe.judges, recipe.seed, saved, observe)


def fit_segmenter(saved: State | None, observe: Observe, steps: int = 4) -> nn.Module:
    recipe = tiny_settings(judges__segmenter_steps=steps)
    return train_segmenter(IMAGES, MASKS, recipe.judges, recipe.seed, saved, observe)


def spell(texts: Sequence[str]) -> Conditioning:
    """A text encoder of one line: letters as numbers."""
    codes = [[ord(letter) / 128 for letter in text[:16].ljust(16)] for text in texts]
    return Conditioning(torch.tensor(codes).reshape(len(texts), 4, 4))


TRAINERS = [fit_autoencoder, fit_clip, fit_image_tower, fit_diffusion, fit_classifier, fit_segmenter]


@pytest.mark.parametrize("fit", TRAINERS)
def test_resumed_run_equals_uninterrupted(fit: Train) -> None:
    kept: State = {}

    def stop_after_two(learner: Learner, loss: float) -> None:
        if learner.step == 2:
            kept.update({key: value.clone() for key, value in learner.state().items()})
            raise Stopped

    whole = fit(None, lambda learner, loss: None).state_dict()
    with pytest.raises(Stopped):
        fit(None, stop_after_two)
    resumed = fit(kept, lambda learner, loss: None).state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("fit", TRAINERS)
def test_loss_falls(fit: Callable[..., nn.Module]) -> None:
    losses: list[float] = []
    assert "steps" in inspect.signature(fit).parameters
    fit(None, lambda learner, loss: losses.append(loss), steps=60)
    assert np.mean(losses[-15:]) < np.mean(losses[:15])


def test_foreign_checkpoint_is_refused() -> None:
    learner = Learner({"a": nn.Linear(2, 2)}, ema_decay=0.9)
    with pytest.raises(TrainingError, match="does not fit"):
        restore(learner, Learner({"b": nn.Linear(2, 2)}, ema_decay=0.9).state())


def test_diverged_run_stops() -> None:
    learner = Learner({"a": nn.Linear(2, 2)}, ema_decay=0.9)
    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        learn_steps(learner, 3, lambda step: torch.tensor(float("nan")), lambda step: 0.1, None, lambda *_: None)


def test_average_follows_the_weights() -> None:
    layer = nn.Linear(1, 1, bias=False)
    learner = Learner({"a": layer}, ema_decay=0.5, weight_decay=0.0)
    start = layer.weight.item()
    learner.learn(layer.weight.sum(), learning_rate=0.1)
    assert layer.weight.item() == pytest.approx(start - 0.1, abs=1e-5)
    decay = 2 / 11
    expected = decay * start + (1 - decay) * layer.weight.item()
    learner.load_average()
    assert layer.weight.item() == pytest.approx(expected, abs=1e-6)
