"""Inpaint a region with the generator itself: the fallback of a repair, and its rival.

The latent is noised to a share of the schedule and denoised again, blended with the original; see inpainting/blend.py.
Pixels outside the region are the original's own. Only schedules that fit DDIM work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tailforge.tasks.methods.inpainting.blend import Canvas, blend_latents, find_cells
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

    # The seed alone decides the noise.
    noise = torch.randn(latents.shape, generator=torch.Generator("cpu").manual_seed(seed)).to(latents)
    canvas = Canvas(latents, noise, find_cells(inside[None], latents))
    predict = choose_prediction(model, scheduler, text, negative, settings.guidance, None)
    return blend_latents(scheduler, predict, canvas, settings.strength)
