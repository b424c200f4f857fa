"""Count the bytes of tensors that a gradient step holds at most, on fake tensors; see sampling/footprint.py."""

import torch
from torch import Tensor

from tailforge.schemas.settings.engines import SeedSelectEngine
from tailforge.tasks.methods.sampling.footprint import CountedSteps, count_peak
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.sampling.plain import Sampling, walk_steps
from tailforge.tasks.methods.seed_select.aim import ImageEncoder
from tailforge.tasks.methods.seed_select.gradient import predict_with_gradient, run


def count_gradient(
    sampling: Sampling, encoder: ImageEncoder, settings: SeedSelectEngine, noise: Tensor, text: Conditioning
) -> int:
    """Return the peak of a gradient with respect to `noise` [B, C, H, W] through all steps, in bytes."""
    # Each further step keeps as much as the second: two counts make the line.
    first, second = (_count_steps(sampling, encoder, settings, noise, text, steps) for steps in (1, 2))
    steps = min(settings.grad_steps or settings.steps, settings.steps)
    return first + (steps - 1) * (second - first)


def _count_steps(
    sampling: Sampling,
    encoder: ImageEncoder,
    settings: SeedSelectEngine,
    noise: Tensor,
    text: Conditioning,
    steps: int,
) -> int:
    """Return the peak with some denoising steps, all of them with gradient."""
    scheduler = CountedSteps(steps)

    # The calls of optimise.look: denoise, decode, embed; any loss of the features has the same backward pass.
    def differentiate() -> None:
        leaf = noise.clone().requires_grad_()
        latents = leaf
        for latents in walk_steps(scheduler, leaf, predict_with_gradient(sampling, scheduler, text, settings)):  # noqa: B007
            pass
        images = run(sampling.model.decode, latents, keep=not settings.checkpointing)
        features = encoder.embed_pixels(images.to(torch.promote_types(images.dtype, torch.float32)).clamp(-1, 1))
        torch.autograd.grad(features.sum(), leaf)

    with torch.enable_grad():
        return count_peak(differentiate)
