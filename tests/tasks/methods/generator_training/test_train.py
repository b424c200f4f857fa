"""The trainer: it learns, it resumes and splits without a trace, and weight zero is plain training bit for bit."""

from typing import Any

import pytest
import torch

from tailforge.schemas.errors import TrainingError
from tailforge.schemas.training.generator import LearningSettings
from tailforge.tasks.methods.generator_training.denoising import measure_error
from tailforge.tasks.methods.generator_training.devices import OneDevice
from tailforge.tasks.methods.generator_training.plan import plan_learning
from tailforge.tasks.methods.generator_training.structure_game import StructureGame
from tailforge.tasks.methods.generator_training.train import DenoiserLearner, train_denoiser
from tailforge.tasks.methods.training_loop import State
from tests.support.tiny_denoisers import tiny_examples, tiny_game, tiny_network, tiny_sampler, tiny_settings, tiny_unet


def train(
    settings: LearningSettings, game: StructureGame | None = None, saved: State | None = None, **network: Any
) -> tuple[DenoiserLearner, list[float]]:
    losses: list[float] = []
    learner = train_denoiser(
        tiny_network(**network), tiny_sampler(settings), plan_learning(settings), game, OneDevice(), saved,
        lambda _, loss: losses.append(loss),
    )  # fmt: skip
    return learner, losses


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_it_learns() -> None:
    settings = tiny_settings(steps=60, batch=16, learning_rate=5e-3)
    network, before, plan = tiny_network(), tiny_network(), plan_learning(settings)
    learner = train_denoiser(network, tiny_sampler(settings), plan, None, OneDevice(), None, lambda *_: None)
    unseen = tiny_examples(seed=9)
    with learner.averaged():
        after = measure_error(network, unseen, plan, OneDevice())
    assert after < 0.7 * measure_error(before, unseen, plan, OneDevice())


@pytest.mark.parametrize("arm", ["instance", "frozen", "sadm", "random_encoder"])
@pytest.mark.parametrize("mode", ["single", "alternate"])
def test_a_run_that_was_stopped_ends_in_the_same_bits(arm: str, mode: str) -> None:
    settings = tiny_settings(steps=6)
    whole, losses = train(settings, tiny_game(arm, mode=mode))
    half, first = train(settings.model_copy(update={"steps": 3}), tiny_game(arm, mode=mode))
    kept = {key: value.clone() for key, value in half.state().items()}
    rest, last = train(settings, tiny_game(arm, mode=mode), kept)
    assert first + last == losses
    assert same(rest.state(), whole.state())


def test_without_weight_or_before_its_time_a_game_changes_nothing() -> None:
    settings = tiny_settings()
    plain, losses = train(settings)
    waiting, same_losses = train(settings, tiny_game("sadm", warm_up=1.0))
    assert same_losses == losses
    assert all(torch.equal(value, waiting.state()[key]) for key, value in plain.state().items())


def test_a_game_changes_the_denoiser() -> None:
    _, losses = train(tiny_settings())
    _, other = train(tiny_settings(), tiny_game("frozen", weight=1.0))
    assert losses[0] == other[0]
    assert losses[1:] != other[1:]


def test_passes_change_sums_and_nothing_else() -> None:
    whole, _ = train(tiny_settings(batch=16))
    split, _ = train(tiny_settings(batch=16, passes=4))
    for key, value in whole.parameters.items():
        assert torch.allclose(value, split.parameters[key], atol=2e-4), key


class Half:
    """One of two processes; the means are taken by hand in the test."""

    def __init__(self, rank: int) -> None:
        self.rank, self.count, self.device = rank, 2, torch.device("cpu")
        self.seen: list[torch.Tensor] = []

    autocast = OneDevice().autocast

    def average(self, values: Any) -> None:
        self.seen += [value.clone() for value in values]


def test_two_devices_see_the_two_halves_of_a_step() -> None:
    settings = tiny_settings(steps=1, batch=16)
    gradients = []
    for devices in (OneDevice(), Half(0), Half(1)):
        seen: list[torch.Tensor] = []
        devices.average = lambda values, seen=seen: seen.extend(value.clone() for value in values)  # type: ignore[method-assign]
        train_denoiser(
            tiny_network(), tiny_sampler(settings), plan_learning(settings), None, devices, None, lambda *_: None
        )
        gradients.append(seen)
    for one, first, second in zip(*gradients, strict=True):
        assert torch.allclose(one, (first + second) / 2, atol=1e-5)


def test_a_batch_that_devices_do_not_divide_is_refused() -> None:
    settings = tiny_settings(batch=8, shared_noise=8)
    with pytest.raises(TrainingError, match="set it to a multiple of 16"):
        train_denoiser(
            tiny_network(), tiny_sampler(settings), plan_learning(settings), None, Half(0), None, lambda *_: None
        )


def test_a_loss_that_is_no_number_ends_the_run_before_it_harms_the_weights() -> None:
    examples = tiny_examples()
    examples.latents[3] = float("nan")
    settings = tiny_settings(steps=9)
    seen: list[State] = []
    with pytest.raises(TrainingError, match=r"the loss is nan at step .*last checkpoint is kept"):
        train_denoiser(
            tiny_network(), tiny_sampler(settings, examples), plan_learning(settings), None, OneDevice(), None,
            lambda learner, _: seen.append({key: value.clone() for key, value in learner.state().items()}),
        )  # fmt: skip
    assert all(value.isfinite().all() for state in seen for value in state.values())


def test_relations_of_the_source_are_no_distance_at_first() -> None:
    """The source is the model before training, so before the first step both predict the same."""
    game = tiny_game("frozen", weight=0.5)
    learner, _ = train(tiny_settings(steps=1), game, source=tiny_unet())
    assert learner.figures["structure/distance"] == pytest.approx(0, abs=1e-9)


def test_the_weight_waits_until_there_is_a_distance() -> None:
    game = tiny_game("frozen")
    train(tiny_settings(steps=1), game, source=tiny_unet())
    assert float(game.weight) == 0.0
    game = tiny_game("frozen", largest_weight=1e9)
    learner, _ = train(tiny_settings(steps=3), game, source=tiny_unet())
    assert learner.figures["structure/gradient_ratio"] == pytest.approx(game.settings.share, rel=0.01)


def test_a_game_that_makes_the_denoiser_worse_ends_and_the_best_weights_come_back() -> None:
    settings = tiny_settings(steps=2)
    learner, _ = train(settings, tiny_game("sadm", tolerance=0.1))
    assert not learner.check(1.0)
    best = {key: value.clone() for key, value in learner.average.items()}
    learner.advance(tiny_sampler(settings))
    assert not learner.check(1.05)
    assert learner.check(1.2)
    assert all(torch.equal(value, best[key]) for key, value in learner.average.items())
    assert all(torch.equal(value, best[key]) for key, value in learner.parameters.items())
    plain = learner.advance(tiny_sampler(settings))
    assert "structure/distance" not in learner.figures
    assert plain > 0
    assert not learner.check(9.0)
