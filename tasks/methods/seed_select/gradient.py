"""Differentiate the denoiser with respect to the noise, within bounded memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tailforge.schemas.settings.engines import SeedSelectEngine
from tailforge.tasks.methods.sampling.generator import Conditioning, Scheduler, join_conditionings
from tailforge.tasks.methods.sampling.plain import Predict, Sampling, apply_guidance


def run(call: Callable[..., Tensor], *arguments: Any, keep: bool) -> Tensor:
    """Run `call(*arguments)`, of any shape; unless `keep`, recompute its activations in the backward pass."""
    if keep or not torch.is_grad_enabled():
        return call(*arguments)
    result: Tensor = checkpoint(call, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


def predict_with_gradient(
    sampling: Sampling, scheduler: Scheduler, text: Conditioning, settings: SeedSelectEngine
) -> Predict:
    """Return the guided output [B, C, H, W], differentiable in the latents in the last `grad_steps` calls.

    In earlier calls the network's output counts as a constant, so the gradient follows the sampler's linear path alone.
    Without `unconditional_gradient`, guidance's difference counts as a constant in every call. The conditional branch's
    derivative then stands for both branches: a surrogate, at half the cost. Its cosine with the true gradient falls as
    guidance grows; docs/explanation/seed_select.md has figures.
    """
    model, negative, guidance = sampling.model, sampling.negative, sampling.settings.guidance
    skipped = len(scheduler.timesteps) - (settings.grad_steps or len(scheduler.timesteps))
    calls = 0

    def call(latents: Tensor, step: Any, conditioning: Conditioning) -> Tensor:
        return run(model.denoise, latents, step, conditioning, keep=not settings.checkpointing)

    def predict(latents: Tensor, step: Any) -> Tensor:
        nonlocal calls
        calls += 1
        scaled = scheduler.scale_model_input(latents, step)
        # Early calls: cut the gradient at the network's input.
        if calls <= skipped:
            scaled = scaled.detach()
        if negative is None:
            return call(scaled, step, text)

        # Both branches with gradient, or only the conditional one.
        constant = negative.expand(len(latents))
        if settings.unconditional_gradient:
            both = call(torch.cat([scaled, scaled]), step, join_conditionings([constant, text]))
            return apply_guidance(both, guidance)
        with torch.no_grad():
            unconditional = model.denoise(scaled, step, constant)
        conditional = call(scaled, step, text)
        # Equal to `guide`. Were the difference differentiated in one branch alone, the derivative would be `guidance`
        # times that of either branch, and over many steps nothing like that of the image.
        return conditional + (guidance - 1) * (conditional.detach() - unconditional)

    return predict
