"""Inpaint a region with the generator itself: the fallback of a repair, and its rival.

The latent is noised to a share of the schedule and denoised again. After each step, the outside of the region is reset
to the original at that noise (the blending of Lugmayr et al. 2022, RePaint, arXiv 2201.09865, without its resampling).
Pixels outside the region are the original's own. Only schedules that fit DDIM work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tailforge.tasks.methods.regional_primitives.patches import shrink_mask
from tailforge.tasks.methods.sampling.generator import Conditioning, ImageGenerator
from tailforge.tasks.methods.sampling.plain import choose_prediction


@dataclass(frozen=True)
class InpaintSettings:
    """`strength`: the share of the schedule that the region is noised to, 0 to 1; `steps` of the whole schedule."""

    strength: float = 0.6
    steps: int = 20
    guidance: float = 3.0


def inpaint_region(
    model: ImageGenerator,
    latents: Tensor,
    region: Tensor,
    text: Conditioning,
    negative: Conditioning | None,
    settings: InpaintSettings,
    seeds: Sequence[int],
) -> Iterator[Tensor]:
    """Yield an image [1, 3, H, W] per seed, each drawn on demand. `latents` [1, C, h, w] clean, `region` [H, W].

    The caller holds the model's lock.
    """
    with torch.no_grad():
        image = model.decode(latents)
    inside = region.to(image.device)
    for seed in seeds:
        with torch.no_grad():
            drawn = model.decode(redraw(model, latents, inside, text, negative, settings, seed))
        # Outside the region, the original's pixels stay.
        yield torch.where(inside, drawn, image)


def redraw(
    model: ImageGenerator,
    latents: Tensor,
    inside: Tensor,
    text: Conditioning,
    negative: Conditioning | None,
    settings: InpaintSettings,
    seed: int,
) -> Tensor:
    """Return clean latents [1, C, h, w], new on every cell that holds a pixel of the region."""
    height, width = inside.shape
    scheduler = model.make_scheduler("ddim", (height, width))
    scheduler.set_timesteps(settings.steps, device=model.device)

    # A cell is redrawn if any of its pixels is in the region. The seed alone decides the noise.
    cells = shrink_mask(inside[None].to(latents.dtype), (latents.shape[2], latents.shape[3])) > 0
    noise = torch.randn(latents.shape, generator=torch.Generator("cpu").manual_seed(seed)).to(latents)

    # Only the steps up to `strength` are walked; with a tiny strength there are none.
    predict = choose_prediction(model, scheduler, text, negative, settings.guidance, None)
    count = scheduler.config.num_train_timesteps
    walked = [step for step in scheduler.timesteps if float(step) <= settings.strength * count]
    if not walked:
        return latents

    def noised(step: Any) -> Tensor:
        """Return the original at the noise of a step; half a step more keeps the share from being rounded down."""
        return model.add_noise(latents, noise, (float(step) + 0.5) / count)[0]

    # RePaint's blending: new latents inside, the original at the next step's noise outside.
    current = noised(walked[0])
    for step, following in zip(walked, [*walked[1:], None], strict=True):
        made = scheduler.step(predict(current, step), step, current, return_dict=False)[0]
        current = torch.where(cells, made, latents if following is None else noised(following))
    return current
