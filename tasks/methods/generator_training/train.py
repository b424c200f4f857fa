"""Train a denoiser: the one loop of every generator.

A step draws a batch and its noise, denoises them in passes, plays the structure game where there is one, and moves the
averaged weights. Which batches and which rates are the caller's choice: see `Sampler` and `Plan`.
Letters of shapes: B images of a step or pass, C channels, H and W latent rows and columns.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tailforge.schemas.errors import TrainingError
from tailforge.tasks.methods.generator_training.batches import Batch, Sampler
from tailforge.tasks.methods.generator_training.denoising import Denoised, Network, denoise, denoising_loss
from tailforge.tasks.methods.generator_training.devices import Devices
from tailforge.tasks.methods.generator_training.noise import Draws, draw_noise
from tailforge.tasks.methods.generator_training.plan import Plan
from tailforge.tasks.methods.generator_training.structure_game import Predicted, StructureGame
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.training_loop import (
    GRADIENT_NORM,
    Learner,
    Observe,
    Saved,
    State,
    require_finite,
    run_steps,
    torch_draws,
)


@dataclass(frozen=True)
class Step:
    """A step, or a pass of it: its batch and its noise."""

    batch: Batch
    draws: Draws


class DenoiserLearner(Learner):
    """A learner that splits a step into passes and plays the structure game; `figures` describe the last step."""

    def __init__(self, network: Network, plan: Plan, game: StructureGame | None, devices: Devices) -> None:
        # Checkpoints know the weights as unet.*, whatever the network.
        super().__init__({"unet": network.module}, plan.ema_decay(0), plan.weight_decay)
        self.network, self.plan, self.game, self.devices = network, plan, game, devices
        self.figures: dict[str, float] = {}

        # The best averaged weights so far, for a game that makes the denoiser worse.
        self.best_error = torch.tensor(math.inf)
        self.best = {key: value.clone() for key, value in self.average.items()} if game else {}

    def advance(self, sampler: Sampler) -> float:
        """Take one step and return its denoising loss. Errors: TrainingError if the loss is not finite."""
        # Draw the whole step; this process denoises its own passes.
        step = draw_step(sampler, self.plan, self.step, len(self.network.schedule.signal))
        parts = list(self._cut(step))
        weight = torch.zeros(())
        losses = []

        # The gradients of all passes add up. The first pass sets the weight of the structure's distance.
        self._optimizer.zero_grad(set_to_none=True)
        for number, part in enumerate(parts):
            denoising, pair = self._forward(sampler, part)
            total = denoising
            if self.game and pair:
                distance = self.game.distance(pair)
                if number == 0:
                    weight = self.game.weigh(denoising, distance, self.network.last)
                total = denoising + weight * distance
            (total / len(parts)).backward()  # type: ignore[no-untyped-call]
            losses.append(denoising.detach())

        # A loss that is not finite ends the run before it harms the weights.
        value = self._mean(torch.stack(losses).mean())
        require_finite(value, self.step)
        self._take_step(weight, pair)
        return value

    def _take_step(self, weight: Tensor, pair: Predicted | None) -> None:
        """Move the network, then the opponent, then the average. `weight`: a scalar, of the distance."""
        # All processes take the mean gradient, so their weights stay equal.
        gradients = [value.grad for value in self.parameters.values() if value.grad is not None]
        self.devices.average(gradients)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), GRADIENT_NORM)
        rate = self.plan.learning_rate(self.step)
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.step()

        # The opponent moves after the denoiser. Its figures are those of its last play.
        if self.game and pair:
            self.game.finish_play(weight, pair)
        played = self.game.figures if self.game and bool(self.game.playing) else {}
        self.figures = {"rate": rate, "gradient_norm": float(norm)} | played

        # A plan may average over fewer steps from some step on.
        self.ema_decay = self.plan.ema_decay(self.step)
        self.finish_step()

    def _cut(self, step: Step) -> Iterator[Step]:
        """Yield this process's passes of a step, none of which cuts a group."""
        # Equal pieces, rank by rank and pass by pass.
        count = self.plan.passes * self.devices.count
        size = len(step.batch.rows) // count
        for number in range(self.plan.passes):
            at = (self.devices.rank * self.plan.passes + number) * size
            piece = slice(at, at + size)
            yield Step(step.batch.cut(piece), Draws(step.draws.times[piece], step.draws.noise[piece]))

    def _forward(self, sampler: Sampler, part: Step) -> tuple[Tensor, Predicted | None]:
        """Return a pass's denoising loss, and what the game compares if it plays in this step."""
        # Load only the pass's latents, and embed only its texts.
        clean, text = sampler.load(part.batch.rows), self.network.embed(part.batch.texts)
        made = denoise(self.network, clean, part.draws, text, self.devices)
        loss = denoising_loss(self.network, made, self.plan)
        return loss, self._predict(made, text, part.batch) if self._plays() else None

    def _predict(self, made: Denoised, text: Conditioning, batch: Batch) -> Predicted:
        """Return the clean latents that the output means, beside those that their relations are compared with."""
        schedule, times = self.network.schedule, made.draws.times

        # Relations are the images' own, or those that the source model predicts from the same noisy latents.
        reference = made.clean
        if self.network.source is not None:
            with torch.no_grad(), self.devices.autocast():
                output = self.network.source(made.noisy, times, text).float()
            reference = schedule.predict_clean(output, made.noisy, times)

        # Images count by their signal; those without their caption do not.
        weights = schedule.signal[times] * torch.from_numpy(batch.captioned).to(times.device)
        return Predicted(reference, schedule.predict_clean(made.output, made.noisy, times), weights)

    def _plays(self) -> bool:
        """Return whether this step compares relations."""
        game = self.game
        if game is None or not bool(game.playing) or self.step % self.plan.play_every:
            return False
        return self.step >= game.settings.warm_up * self.plan.steps

    def _mean(self, value: Tensor) -> float:
        """Return the mean of a scalar over all processes."""
        held = value.clone()
        self.devices.average([held])
        return float(held)

    def check(self, error: float) -> bool:
        """Compare the averaged weights' denoising error with the best so far; return whether the game was ended.

        A game that has made the error worse ends, and the weights go back to the best averaged ones.
        """
        if not self.game or not bool(self.game.playing):
            return False

        # Remember the best averaged weights.
        if error <= float(self.best_error):
            self.best_error = torch.tensor(error)
            self.best = {key: value.clone() for key, value in self.average.items()}

        # A rise counts only once the game was played.
        if not int(self.game.plays) or error <= (1 + self.game.settings.tolerance) * float(self.best_error):
            return False

        # End the game and go back to the best weights.
        self.game.stop()
        with torch.no_grad():
            for key, value in self.parameters.items():
                value.copy_(self.best[key])
                self.average[key].copy_(self.best[key])
        return True

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network its averaged weights inside the block."""
        # Put the weights aside, and bring them back whatever happens.
        with torch.no_grad():
            kept = {key: value.detach().clone() for key, value in self.parameters.items()}
            for key, value in self.parameters.items():
                value.copy_(self.average[key])
        try:
            yield
        finally:
            with torch.no_grad():
                for key, value in self.parameters.items():
                    value.copy_(kept[key])

    def state(self) -> State:
        """Return everything that `restore` needs, as flat tensors."""
        # A game adds its own state and the best weights.
        saved = super().state()
        if self.game:
            saved |= {f"game/{key}": value for key, value in self.game.state().items()}
            saved |= {f"best/{key}": value for key, value in self.best.items()} | {"best_error": self.best_error}
        return saved


def train_denoiser(
    network: Network,
    sampler: Sampler,
    plan: Plan,
    game: StructureGame | None,
    devices: Devices,
    saved: Saved,
    observe: Observe,
) -> DenoiserLearner:
    """Train from `saved` on to the plan's last step; return the learner, which holds the averaged weights.

    The caller loads the averaged weights. `observe(learner, loss)` is called after every step. All draws of a step
    follow from the seed and the step's number, so a run that was killed ends in the same bits. Errors: TrainingError.
    """
    _require_divisible(sampler.shape[0], plan, game, devices)
    learner = DenoiserLearner(network, plan, game, devices)
    run_steps(learner, plan.steps, lambda step: learner.advance(sampler), saved, observe)
    return learner


def draw_step(sampler: Sampler, plan: Plan, step: int, levels: int) -> Step:
    """Return the batch and the noise of a step, at some of the schedule's `levels`."""
    # The sampler's stream and the noise's are apart, so neither shifts the other.
    draws = draw_noise(sampler.shape, levels, plan.sharing(step), torch_draws(plan.seed, step))
    return Step(sampler.draw(step), draws)


def _require_divisible(batch: int, plan: Plan, game: StructureGame | None, devices: Devices) -> None:
    """Refuse a batch whose groups the split into devices and passes would cut, by a TrainingError."""
    # Neighbours that share a noise level stay together, and so do those that are compared.
    group = max(plan.shared_noise, game.settings.group if game else 1)
    least = devices.count * plan.passes * group
    if batch % least:
        raise TrainingError(
            f"learning.batch is {batch}, which {devices.count} devices x {plan.passes} passes x groups of {group} do "
            f"not divide; set it to a multiple of {least}"
        )
