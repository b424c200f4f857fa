"""Training a generator's UNet on encoded images: draw a step, denoise it, play the structure game, average weights.

Letters of shapes: N images of the data, B of a step or pass, G groups, C channels, H and W latent rows and columns.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailforge.schemas.errors import TrainingError
from tailforge.schemas.training.generator import LearningSettings
from tailforge.schemas.under_way import tell
from tailforge.tasks.methods.classifiers.train import draw_rows
from tailforge.tasks.methods.generator_training.devices import Devices
from tailforge.tasks.methods.generator_training.noise import Draws, NoiseSchedule, draw_noise
from tailforge.tasks.methods.generator_training.structure_game import Predicted, StructureGame
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.training_loop import (
    GRADIENT_NORM,
    Learner,
    Observe,
    Saved,
    State,
    numpy_draws,
    restore,
    torch_draws,
    warm_up_then_cosine,
)

VERSION = "generator-training.1"
CHECK_SEED = 7919  # of the noise that held-out images are measured with
CHECK_ROWS = 64
CHECK_DRAWS = 4

Denoise = Callable[[Tensor, Tensor, Conditioning], Tensor]  # noisy latents, times and text to the network's output
Embed = Callable[[Sequence[str]], Conditioning]


@dataclass(frozen=True)
class Examples:
    """Clean latents with their captions; `latents` may lie on a disk, `chosen` [N] are the rows of it that are used."""

    latents: NDArray[np.float32]
    captions: Sequence[str]
    chosen: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, rows: NDArray[np.int64] | slice) -> tuple[Tensor, list[str]]:
        """Latents [B, C, H, W] and captions of some of the N."""
        places = self.chosen[rows]
        return torch.from_numpy(np.array(self.latents[places])), [self.captions[place] for place in places]


@dataclass(frozen=True)
class Network:
    """The denoiser as training sees it. `last`: the weights on which gradients are compared."""

    module: nn.Module
    denoise: Denoise
    embed: Embed
    last: nn.Parameter
    source: Denoise | None = None  # the model before training, where relations are taken from it


@dataclass(frozen=True)
class Step:
    """One step's draws: rows of the examples [B], noise, and which rows keep their caption, bool [B]."""

    rows: NDArray[np.int64]
    draws: Draws
    kept: NDArray[np.bool_]


class GeneratorLearner(Learner):
    """A learner that splits a step into passes and plays the structure game; `figures` says what the last step did."""

    def __init__(
        self,
        network: Network,
        schedule: NoiseSchedule,
        settings: LearningSettings,
        game: StructureGame | None,
        devices: Devices,
        play_every: int = 1,
    ) -> None:
        super().__init__({"unet": network.module}, settings.ema_decay, settings.weight_decay)
        self.network, self.schedule, self.settings = network, schedule, settings
        self.game, self.devices, self.play_every = game, devices, play_every
        self.figures: dict[str, float] = {}
        self.best_error = torch.tensor(math.inf)
        self.best = {key: value.clone() for key, value in self.average.items()} if game else {}

    def advance(self, examples: Examples) -> float:
        """One step; returns its denoising loss. Errors: TrainingError if it is not finite."""
        group = 1 if self.step % self.play_every else self.settings.shared_noise
        step = draw_step(examples, len(self.schedule.signal), self.settings, self.step, group)
        parts = list(self._cut(step))
        weight = torch.zeros(())
        losses = []
        self._optimizer.zero_grad(set_to_none=True)
        for number, part in enumerate(parts):
            denoising, pair = self._forward(examples, part)
            total = denoising
            if self.game and pair:
                distance = self.game.distance(pair)
                if number == 0:
                    weight = self.game.weigh(denoising, distance, self.network.last)
                total = denoising + weight * distance
            (total / len(parts)).backward()  # type: ignore[no-untyped-call]
            losses.append(denoising.detach())
        value = self._mean(torch.stack(losses).mean())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.step}; the last checkpoint is kept: lower learning.learning_rate "
                "and start again in another work folder"
            )
        self._take_step(weight, pair)
        return value

    def _take_step(self, weight: Tensor, pair: Predicted | None) -> None:
        gradients = [value.grad for value in self.parameters.values() if value.grad is not None]
        self.devices.average(gradients)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), GRADIENT_NORM)
        rate = self._rate()
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.step()
        if self.game and pair:
            self.game.finish_play(weight, pair)
        played = self.game.figures if self.game and bool(self.game.playing) else {}  # of its last play
        self.figures = {"rate": rate, "gradient_norm": float(norm)} | played
        self.finish_step()

    def _rate(self) -> float:
        settings = self.settings
        warm_up = round(settings.warm_up * settings.steps)
        if settings.schedule == "cosine":
            return warm_up_then_cosine(settings.learning_rate, settings.steps, warm_up)(self.step)
        return settings.learning_rate * min(1.0, (self.step + 1) / (warm_up + 1))

    def _cut(self, step: Step) -> Iterator[Step]:
        """This process's passes of a step, none of which cuts a group."""
        count = self.settings.passes * self.devices.count
        size = len(step.rows) // count
        for number in range(self.settings.passes):
            at = (self.devices.rank * self.settings.passes + number) * size
            piece = slice(at, at + size)
            draws = Draws(step.draws.times[piece], step.draws.noise[piece])
            yield Step(step.rows[piece], draws, step.kept[piece])

    def _forward(self, examples: Examples, part: Step) -> tuple[Tensor, Predicted | None]:
        schedule, settings = self.schedule, self.settings
        clean, captions = examples.take(part.rows)
        text = self.network.embed([text if kept else "" for text, kept in zip(captions, part.kept, strict=True)])
        made = denoise(self.network, schedule, clean, part.draws, text, self.devices)
        loss = schedule.loss(made.output, made.clean, made.draws, settings.weighting, settings.snr_limit)
        if not self._plays():
            return loss, None
        times, reference = made.draws.times, made.clean
        if self.network.source is not None:
            with torch.no_grad(), self.devices.autocast():
                told = self.network.source(made.noisy, times, text).float()
            reference = schedule.predict_clean(told, made.noisy, times)
        weights = schedule.signal[times] * torch.from_numpy(part.kept).to(times.device)
        return loss, Predicted(reference, schedule.predict_clean(made.output, made.noisy, times), weights)

    def _plays(self) -> bool:
        game = self.game
        if game is None or not bool(game.playing) or self.step % self.play_every:
            return False
        return self.step >= game.settings.warm_up * self.settings.steps

    def _mean(self, value: Tensor) -> float:
        held = value.clone()
        self.devices.average([held])
        return float(held)

    def check(self, error: float) -> bool:
        """Compare the averaged weights' denoising error with the best so far; ends a game that has made it worse.

        The weights then go back to the best averaged ones. Returns whether the game was ended.
        """
        if not self.game or not bool(self.game.playing):
            return False
        if error <= float(self.best_error):
            self.best_error = torch.tensor(error)
            self.best = {key: value.clone() for key, value in self.average.items()}
        if not int(self.game.plays) or error <= (1 + self.game.settings.tolerance) * float(self.best_error):
            return False
        self.game.stop()
        with torch.no_grad():
            for key, value in self.parameters.items():
                value.copy_(self.best[key])
                self.average[key].copy_(self.best[key])
        return True

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with its averaged weights."""
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
        """Everything that `restore` needs, as flat tensors."""
        saved = super().state()
        if self.game:
            saved |= {f"game/{key}": value for key, value in self.game.state().items()}
            saved |= {f"best/{key}": value for key, value in self.best.items()} | {"best_error": self.best_error}
        return saved


def train_network(
    network: Network,
    schedule: NoiseSchedule,
    examples: Examples,
    settings: LearningSettings,
    game: StructureGame | None,
    devices: Devices,
    saved: Saved,
    observe: Observe,
    play_every: int = 1,
) -> GeneratorLearner:
    """Train to the last step, from `saved` on; `observe(learner, loss)` after each.

    One of `play_every` steps plays the game, and it alone draws groups that share a noise level.

    The learner that is returned holds the averaged weights, which its caller loads. Every draw of a step follows from
    the seed and the step's number, so a run that was killed ends in the same bits. Errors: TrainingError.
    """
    group = max(settings.shared_noise, game.settings.group if game else 1)
    least = devices.count * settings.passes * group
    if settings.batch % least:
        raise TrainingError(
            f"learning.batch is {settings.batch}, which {devices.count} devices x {settings.passes} passes x groups of "
            f"{group} do not divide; set it to a multiple of {least}"
        )
    learner = GeneratorLearner(network, schedule, settings, game, devices, play_every)
    if saved:
        restore(learner, saved)
    while learner.step < settings.steps:
        tell("step", learner.step, settings.steps)
        observe(learner, learner.advance(examples))
    return learner


def draw_step(examples: Examples, levels: int, settings: LearningSettings, step: int, group: int) -> Step:
    """The draws of step `step`, `group` images sharing one of the noise `levels`: every epoch takes each image once."""
    rows = draw_rows(len(examples), settings.batch, settings.seed, step)
    shape = torch.Size((len(rows), *examples.latents.shape[1:]))
    draws = draw_noise(shape, levels, group, torch_draws(settings.seed, step))
    kept = numpy_draws(settings.seed, step).random(len(rows)) >= settings.prompt_dropout
    return Step(rows, draws, kept)


@dataclass(frozen=True)
class Denoised:
    """A pass on its device: clean and noisy latents and the network's output, all [B, C, H, W], and what was drawn."""

    clean: Tensor
    noisy: Tensor
    output: Tensor
    draws: Draws


def denoise(
    network: Network, schedule: NoiseSchedule, clean: Tensor, draws: Draws, text: Conditioning, devices: Devices
) -> Denoised:
    """Noise clean latents of any device by `draws`, and let the network denoise them."""
    clean, draws = clean.to(devices.device), draws.to(devices.device)
    noisy = schedule.add_noise(clean, draws.noise, draws.times).contiguous(memory_format=torch.channels_last)
    with devices.autocast():
        output = network.denoise(noisy, draws.times, text).float()
    return Denoised(clean, noisy, output, draws)


@torch.no_grad()
def measure_error(
    network: Network, schedule: NoiseSchedule, examples: Examples, settings: LearningSettings, devices: Devices
) -> float:
    """Weighted denoising error on the first CHECK_ROWS examples, each at CHECK_DRAWS noise levels, always the same."""
    clean, captions = examples.take(slice(0, CHECK_ROWS))
    text = network.embed(captions)
    errors = []
    for number in range(CHECK_DRAWS):
        drawn = draw_noise(clean.shape, len(schedule.signal), 1, torch_draws(CHECK_SEED, number))
        made = denoise(network, schedule, clean, drawn, text, devices)
        errors.append(schedule.loss(made.output, made.clean, made.draws, settings.weighting, settings.snr_limit))
    return float(torch.stack(errors).mean())
