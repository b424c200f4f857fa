"""Denoise a region of latents while the rest follows a given image.

After every step the latents outside the region are those of the image with that step's noise: Blended Latent Diffusion
(Avrahami et al. 2023, arXiv 2206.02779), the blending of RePaint (Lugmayr et al. 2022, arXiv 2201.09865) in latents.
RePaint's resampling takes each step several times and adds the step's noise again in between, so that the new part
fits its surroundings.

    z_t = a_t z_0 + s_t e          forward process, of any schedule
    z_t = (a_t / a_u) z_u + sqrt(s_t^2 - (a_t s_u / a_u)^2) e     from an earlier level u back to t

A scheduler's own `add_noise` gives a_t and s_t of diffusion; a flow's timestep gives its own.

Letters of shapes: B images, C channels, H and W latent rows and columns.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tailforge.schemas.under_way import count
from tailforge.tasks.methods.regional_primitives.patches import shrink_mask
from tailforge.tasks.methods.sampling.generator import Scheduler
from tailforge.tasks.methods.sampling.plain import Predict, begin_run, step_options


@dataclass(frozen=True)
class Level:
    """The factors of the image and of the noise at one timestep."""

    image: float
    noise: float

    def mix(self, image: Tensor, noise: Tensor) -> Tensor:
        """Return image and noise [B, C, H, W] at this level."""
        return self.image * image + self.noise * noise


CLEAN = Level(1.0, 0.0)


@dataclass(frozen=True)
class Canvas:
    """The image to draw into: its clean `latents` and fixed `noise` [B, C, H, W], and `cells` [B, 1, H, W] to draw.

    `blends`: False for a network made for inpainting. Its pipelines keep all latents that it makes.
    """

    latents: Tensor
    noise: Tensor
    cells: Tensor
    blends: bool = True

    def mix(self, made: Tensor, level: Level) -> Tensor:
        """Return new latents [B, C, H, W] on the cells, and the image at their level elsewhere."""
        return torch.where(self.cells, made, level.mix(self.latents, self.noise)) if self.blends else made


def find_cells(regions: Tensor, latents: Tensor) -> Tensor:
    """Return the cells of latents [B, C, H, W] that hold a pixel of the regions [B, h, w]: bool [B, 1, H, W]."""
    return shrink_mask(regions.to(latents), (latents.shape[2], latents.shape[3])) > 0


def steps_within(scheduler: Scheduler, strength: float, blends: bool = True) -> list[Any]:
    """Return the timesteps up to a share of the noise schedule, 0..1; all for 1. `blends`: as in `Canvas`."""
    known: Any = scheduler
    order = getattr(known, "order", 1)  # a scheduler of second order takes each timestep twice
    if blends:
        # Timesteps of diffusion and of flow matching both count from 0 to the training steps.
        bound = strength * scheduler.config.num_train_timesteps
        left_out = 0 if strength == 1 else sum(float(step) > bound for step in scheduler.timesteps)
    else:
        # Diffusers' pipelines for inpainting count steps.
        whole = known.num_inference_steps
        left_out = order * (whole - min(int(whole * strength), whole))
    return list(scheduler.timesteps[-(-left_out // order) * order :])


def find_level(scheduler: Scheduler, step: Any) -> Level:
    """Return the factors of image and noise at a timestep. The scheduler has not begun its run."""
    # A flow's latents are (1 - s) z_0 + s e at the timestep s T, see models/flow_generators.py.
    known: Any = scheduler
    if hasattr(known, "scale_noise"):
        share = float(step) / known.config.num_train_timesteps
        return Level(1 - share, share)

    # Another scheduler mixes any two arrays; ones and zeros show its factors.
    one, none, at = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.as_tensor(step).reshape(1).cpu()
    return Level(float(known.add_noise(one, none, at)), float(known.add_noise(none, one, at)))


def blend_latents(
    scheduler: Scheduler,
    predict: Predict,
    canvas: Canvas,
    strength: float,
    generators: Sequence[torch.Generator] = (),
    resample: int = 1,
) -> Tensor:
    """Return latents [B, C, H, W]: drawn on the canvas's cells, and its own elsewhere. The timesteps are set.

    `generators`, one per image, give the noise of resampling, which needs them, and of schedulers that add some.
    """
    # Levels first: a scheduler that has begun a run answers for its current step alone.
    steps = steps_within(scheduler, strength, canvas.blends)
    if not steps:
        return canvas.latents
    levels = [*(find_level(scheduler, step) for step in steps), CLEAN]
    begin_run(scheduler, len(scheduler.timesteps) - len(steps))
    options = step_options(scheduler, generators)

    # The start: the image at the first level, or noise alone.
    current = (
        canvas.noise * scheduler.init_noise_sigma if strength == 1 else levels[0].mix(canvas.latents, canvas.noise)
    )
    for number, step in enumerate(count(steps, "step", steps)):
        here, next_level = levels[number], levels[number + 1]
        before = copy.deepcopy(scheduler) if resample > 1 else scheduler
        for turn in range(resample):
            # Every turn begins with the scheduler's state before the step.
            scheduler = copy.deepcopy(before) if resample > 1 else before
            made = scheduler.step(predict(current, step), step, current, return_dict=False, **options)[0]

            # New latents on the cells, the image at the next level elsewhere.
            blended = canvas.mix(made, next_level)
            last = turn == resample - 1
            current = blended if last else renoise(blended, next_level, here, generators)
    return current


def renoise(latents: Tensor, low: Level, high: Level, generators: Sequence[torch.Generator]) -> Tensor:
    """Return latents [B, C, H, W] of a level with more noise, up to a higher level of the forward process."""
    # Fresh noise per image, on the CPU, so that it is equal on every device.
    shape = (1, *latents.shape[1:])
    fresh = torch.cat([torch.randn(shape, generator=each) for each in generators]).to(latents)
    ratio = high.image / low.image
    deviation = math.sqrt(max(high.noise**2 - (ratio * low.noise) ** 2, 0.0))
    return ratio * latents + deviation * fresh
