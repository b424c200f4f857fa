"""Both players move the distance their way, from one backward pass as from two; what is fixed stays fixed."""

from typing import Any

import pytest
import torch
from torch import nn

from tailforge.tasks.methods.generator_training.structure_encoder import StructureEncoder, fit_encoder
from tailforge.tasks.methods.generator_training.structure_game import Predicted, StructureGame
from tests.support.tiny_denoisers import tiny_game


def pair(seed: int = 0, requires_grad: bool = False) -> Predicted:
    draws = torch.Generator().manual_seed(seed)
    reference, found = (torch.randn((8, 4, 8, 8), generator=draws) for _ in range(2))
    return Predicted(reference, found.requires_grad_(requires_grad), torch.tensor([1.0] * 4 + [0.5] * 4))


def distance(game: StructureGame, made: Predicted) -> float:
    with torch.no_grad():
        return float(game.distance(made))


def move(game: StructureGame, weight: float = 1.0) -> None:
    """The encoder's move."""
    game.finish_play(torch.tensor(weight), pair())


def test_the_encoder_raises_the_distance_and_the_prediction_lowers_it() -> None:
    game, made = tiny_game(rate=1e-3), pair(requires_grad=True)
    before = distance(game, made)
    game.distance(made).backward()
    move(game)
    assert distance(game, made) > before
    (slope,) = torch.autograd.grad(game.distance(made), made.found)
    moved = Predicted(made.reference, (made.found - 0.5 * slope / slope.norm()).detach(), made.weights)
    assert distance(game, moved) < distance(game, made)


def test_one_backward_pass_gives_what_two_give() -> None:
    """Equal gradients of the denoiser; of the encoder, those of the step up, whatever the weight."""
    single, alternate, weight = tiny_game(), tiny_game(mode="alternate"), torch.tensor(0.25)
    made = pair(requires_grad=True)
    (weight * single.distance(made)).backward()
    (slope,) = torch.autograd.grad(weight * alternate.distance(pair_of := pair(requires_grad=True)), pair_of.found)
    assert torch.allclose(made.found.grad, slope, atol=1e-7)  # type: ignore[arg-type]
    move(single, 0.25)
    move(alternate)
    for name, value in single.parameters.items():
        assert torch.allclose(value, alternate.parameters[name], atol=1e-6), name


@pytest.mark.parametrize("arm", ["instance", "frozen", "sadm", "random_encoder"])
def test_only_the_last_stage_plays(arm: str) -> None:
    game = tiny_game(arm, rate=1e-2)
    before = {name: value.clone() for name, value in game.encoder.state_dict().items()}
    made = pair(requires_grad=True)
    game.distance(made).backward()
    move(game)
    changed = {name for name, value in game.encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.startswith("last.") for name in changed)
    assert bool(changed) == (arm in ("sadm", "random_encoder"))
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in game.encoder.modules())


@pytest.mark.parametrize("changes", [{}, {"weight": 0.5}, {"mode": "alternate"}])
def test_it_plays_only_its_turns(changes: dict[str, Any]) -> None:
    game, moved = tiny_game(opponent_every=3, **changes), []
    for _ in range(7):
        before = {name: value.clone() for name, value in game.parameters.items()}
        (0.5 * game.distance(pair(requires_grad=True))).backward()
        move(game, 0.5)
        moved.append(any(not torch.equal(value, before[name]) for name, value in game.parameters.items()))
        assert all(value.grad is None for value in game.parameters.values())
    assert moved == [True, False, False, True, False, False, True]


def test_it_waits_while_it_wins() -> None:
    game = tiny_game(pause_ratio=1e-9)
    before = {name: value.clone() for name, value in game.parameters.items()}
    game.distance(pair(requires_grad=True)).backward()
    move(game)
    assert all(torch.equal(value, before[name]) for name, value in game.parameters.items())


def test_the_anchor_pulls_back() -> None:
    drifts = []
    for anchor in (0.0, 10.0):
        game = tiny_game(rate=1e-2, anchor=anchor)
        for _ in range(20):
            game.distance(pair(requires_grad=True)).backward()
            move(game)
        drifts.append(game.figures["structure/drift"])
    assert drifts[1] < 0.5 * drifts[0]


def test_the_weight_makes_the_gradients_the_share_that_was_asked_for() -> None:
    game = tiny_game(share=0.1, largest_weight=1e9)
    last = nn.Parameter(torch.ones(8, 4, 8, 8))
    made = pair()
    found = made.found * last
    structure = game.distance(Predicted(made.reference, found, made.weights))
    weight = game.weigh(found.square().mean(), structure, last)
    norms = [
        torch.autograd.grad(loss, last)[0].norm()
        for loss in (
            (made.found * last).square().mean(),
            game.distance(Predicted(made.reference, made.found * last, made.weights)),
        )
    ]
    assert float(weight * norms[1] / norms[0]) == pytest.approx(0.1, rel=1e-4)


def test_an_encoder_learns_to_tell_images_apart() -> None:
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(2 * torch.randn(48, 4, 2, 2), size=8, mode="bilinear")
    encoder = StructureEncoder(4, 8)
    losses = fit_encoder(encoder, images, 60, seed=1)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert not any(value.requires_grad for value in encoder.parameters())
