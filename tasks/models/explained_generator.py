"""Cut a text-to-image pipeline for an explanation: its decoder, one denoising step, or a one-step generator.

The decoder: the feature leaves `mid_block` or an up block of an AutoencoderKL, or one of the `layers` of an
AutoencoderTiny. The tail computes the image. This explains faults of form, not of meaning.

A step: the feature leaves `mid_block` or an up block of the UNet. The tail runs the rest of the UNet, computes the
clean latent that this step predicts, and decodes it:

    x0 = (z - sqrt(1 - a) e) / sqrt(a)    from predicted noise e,     a = alphas_cumprod[t]
    x0 = sqrt(a) z - sqrt(1 - a) v        from predicted velocity v   (Salimans and Ho 2022, arXiv 2202.00512)

Text, noise and the unconditional pass of guidance are fixed. Skip connections past the layer keep their recorded
values, so the baseline retains part of the image. A one-step generator is a sampler of one step. The paper (arXiv
2410.04421) studies one-step generators; a late step of many is our extension.

Baselines are mean features over many samples: one mean per cell, one spread per channel. This is our choice, and
components depend on it.

Letters of shapes: B images, C channels, H and W latent rows and columns, h and w rows and columns of a feature.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.demands import Subject
from tailforge.tasks.methods.regional_primitives.linearise import Tail
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.sampling.plain import choose_prediction, walk_steps
from tailforge.tasks.models.controlled_generator import ControlledGenerator
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tailforge.tasks.models.staged_network import StagedNetwork, copy_structure, hold_statistics
from tailforge.tasks.models.unet_generator import UNetGenerator

BATCH = 16  # samples per pass for the mean feature
SMALLEST_SPREAD = 1e-4  # part of the largest channel's; bounds the weight of a channel that hardly changes
OUTPUT = ("conv_norm_out", "conv_act", "conv_out")


def explain_decoder(
    model: DiffusersGenerator, latents: Tensor, background: Tensor, layer: str, hold_norms: bool = True
) -> Subject:
    """Return the subject of an explanation: the decoder's image of one latent [1, C, H, W].

    The caller holds the model's lock. `background` [M, C, H, W]: latents of other samples, at least 2, better 256.
    Their mean feature is the baseline. Errors: ExplanationError for an unknown layer or another kind of autoencoder.
    """
    # Cut the decoder at the layer.
    network, finish = stage_decoder(model.pipeline.vae)

    def run(of: Tensor) -> Callable[[Any], Any]:
        return lambda vae: vae.decode(model.unscale(of.float()), return_dict=False)

    feature, tail = network.cut(layer, run(latents), hold_norms)

    # The baseline is the mean over the background.
    baseline, spread = average_features(
        [network.read_feature(layer, run(part)) for part in cut_batches(background, BATCH)], layer
    )
    return Subject(lambda features: finish(tail(features)), feature, baseline, spread)


def stage_decoder(vae: nn.Module) -> tuple[StagedNetwork, Tail]:
    """Return the decoder's stages, and the function from their output to images [B, 3, height, width] in -1..1.

    Errors: ExplanationError for another kind of autoencoder.
    """
    # The stages of each kind, in the order of the forward pass.
    decoder: Any = getattr(vae, "decoder", None)
    kind = type(vae).__name__
    if kind == "AutoencoderKL":
        blocks = ["decoder.mid_block", *(f"decoder.up_blocks.{i}" for i in range(len(decoder.up_blocks)))]
        staged = StagedNetwork(vae, [*blocks, *(f"decoder.{name}" for name in OUTPUT)], blocks)
        finish = no_change
    elif kind == "AutoencoderTiny":
        layers = [f"decoder.layers.{i}" for i in range(len(decoder.layers))]
        staged, finish = StagedNetwork(vae, layers, layers[:-1]), to_signed
    else:
        raise ExplanationError(f"the decoder of a {kind} cannot be cut; possible are AutoencoderKL and AutoencoderTiny")

    # The decoder must run in one pass.
    staged.network.disable_slicing()  # type: ignore[operator]
    staged.network.disable_tiling()  # type: ignore[operator]
    return staged, finish


def no_change(images: Tensor) -> Tensor:
    """Return images [B, 3, height, width] unchanged: an AutoencoderKL's are in -1..1."""
    return images


def to_signed(images: Tensor) -> Tensor:
    """Convert an AutoencoderTiny's images [B, 3, height, width] from 0..1 to -1..1."""
    return images * 2 - 1


@dataclass(frozen=True)
class Step:
    """One denoising step: its input `latents` [1, C, H, W], timestep, text, and with guidance the negative text."""

    latents: Tensor
    timestep: Tensor
    text: Conditioning
    negative: Conditioning | None
    guidance: float


@torch.no_grad()
def reach_step(
    model: UNetGenerator,
    noise: Tensor,
    text: Conditioning,
    negative: Conditioning | None,
    guidance: float,
    steps: int,
    number: int,
) -> Step:
    """Sample from `noise` [1, C, H, W] with DDIM up to step `number`, counted from 1, and return this step.

    Step 1 of 1 is a one-step generator. Errors: ExplanationError for a number outside 1 to `steps`.
    """
    if not 1 <= number <= steps:
        raise ExplanationError(f"step {number} is not among the {count_of(steps, 'step')}; name one from 1 to {steps}")

    # DDIM is deterministic, so the step can be computed again.
    scheduler = model.make_scheduler("ddim")
    scheduler.set_timesteps(steps, device=model.device)
    predict = choose_prediction(model, scheduler, text, negative, guidance, None)

    # The input of the step is the output of the step before it.
    latents = noise * scheduler.init_noise_sigma
    for done, reached in enumerate(walk_steps(scheduler, noise, predict), 1):
        if done == number:
            break
        latents = reached
    return Step(latents, scheduler.timesteps[number - 1], text, negative, guidance)


def explain_step(
    model: UNetGenerator, step: Step, background: Tensor, layer: str, seed: int = 0, hold_norms: bool = True
) -> Subject:
    """Return the subject of an explanation: the image that one step predicts. The caller holds the model's lock.

    `background` [M, C, H, W]: clean latents of other samples. Noise of `seed` brings them to the step's noise level,
    and the network reads them with the step's text. Errors: ExplanationError for an unknown layer or without a UNet.
    """
    # Cut the UNet at the layer, in a pass with the step's text.
    network = stage_denoiser(model)
    scheduler: Any = model.make_scheduler("ddim")

    def run(of: Tensor, text: Conditioning) -> Callable[[Any], Any]:
        return lambda unet: denoise_with(model, unet, of.float(), step.timestep, text)

    feature, tail = network.cut(layer, run(step.latents, step.text), hold_norms)

    # The baseline is the mean over the noised background.
    noise = torch.randn(background.shape, generator=torch.Generator("cpu").manual_seed(seed)).to(background)
    noised = scheduler.add_noise(background, noise, step.timestep.expand(len(background)))
    baseline, spread = average_features(
        [network.read_feature(layer, run(part, step.text.expand(len(part)))) for part in cut_batches(noised, BATCH)],
        layer,
    )

    # The unconditional pass stays fixed.
    with torch.no_grad():
        unguided = None if step.negative is None else run(step.latents, step.negative)(network.network)

    def clean(features: Tensor) -> Tensor:
        output = tail(features)
        if unguided is not None:
            output = unguided + step.guidance * (output - unguided)
        return predict_clean(scheduler, step, output)

    # From the feature to the guided prediction, the clean latent and the image.
    with torch.no_grad():
        decode = hold_decoder(model, clean(feature), hold_norms)
    return Subject(lambda features: decode(clean(features)), feature, baseline, spread)


def stage_denoiser(model: DiffusersGenerator) -> StagedNetwork:
    """Return the UNet's stages. Errors: ExplanationError for a transformer, whose attention is global."""
    if not isinstance(model, UNetGenerator):
        raise ExplanationError(
            f"a step of {type(model.pipeline).__name__} cannot be explained, only one of a UNet; its decoder can be"
        )
    if isinstance(model, ControlledGenerator):
        raise ExplanationError("a step of a generator with a ControlNet cannot be explained; its decoder can be")
    blocks = ["mid_block", *(f"up_blocks.{i}" for i in range(len(model.denoiser.up_blocks)))]
    return StagedNetwork(model.denoiser, [*blocks, *OUTPUT], blocks)


def denoise_with(
    model: UNetGenerator, unet: nn.Module, latents: Tensor, timestep: Tensor, text: Conditioning
) -> Tensor:
    """Return the output [B, C, H, W] of a copy of the model's network for scaled latents [B, C, H, W], in float32."""
    # The same inputs as in the model's `denoise`.
    pooled = None if text.pooled is None else text.pooled.float()
    added = None if pooled is None else {"text_embeds": pooled, "time_ids": model.time_ids(latents, text).float()}
    output: Tensor = unet(
        latents, timestep, encoder_hidden_states=text.embeds.float(), added_cond_kwargs=added, return_dict=False
    )[0]
    return output


def predict_clean(scheduler: Any, step: Step, output: Tensor) -> Tensor:
    """Return the clean latents [B, C, H, W] that a network output [B, C, H, W] predicts.

    Errors: ExplanationError for another kind of prediction.
    """
    # The equations of the module's docstring, by kind of prediction.
    share: Tensor = scheduler.alphas_cumprod.to(output.device)[step.timestep.long()].to(output.dtype)
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return share.sqrt() * step.latents - (1 - share).sqrt() * output
    if kind == "epsilon":
        return (step.latents - (1 - share).sqrt() * output) / share.sqrt()
    if kind == "sample":
        return output
    raise ExplanationError(
        f"the model predicts {kind!r}; steps can be explained of models that predict epsilon, v_prediction or sample"
    )


@torch.no_grad()
def hold_decoder(model: UNetGenerator, clean: Tensor, hold_norms: bool) -> Tail:
    """Return the whole decoder as a function from latents [B, C, H, W] to images [B, 3, height, width].

    With `hold_norms` its norms keep the statistics of the latent `clean` [1, C, H, W].
    """

    def decode(vae: Any, latents: Tensor) -> Tensor:
        images: Tensor = vae.decode(model.unscale(latents.float()), return_dict=False)[0]
        return images

    # A copy, so that the model's own decoder keeps its norms.
    vae = copy_structure(model.pipeline.vae)
    if hold_norms:
        vae = hold_statistics(vae, lambda network: decode(network, clean))
    return lambda latents: decode(vae, latents)


def cut_batches(rows: Tensor, size: int) -> list[Tensor]:
    """Cut rows [N, ...] into batches [size, ...], in order; the last may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def average_features(parts: Sequence[Tensor], layer: str) -> tuple[Tensor, Tensor]:
    """Return the mean [1, C, h, w] of features [B, C, h, w] and the spread of each channel [1, C, 1, 1].

    Errors: ExplanationError for fewer than two samples or a feature that is no map.
    """
    # A mean over one sample would be the sample itself.
    features = torch.cat([part.float() for part in parts])
    if features.dim() != 4:
        raise ExplanationError(
            f"the output of {layer} has the shape {tuple(features.shape[1:])}; choose a layer of maps"
        )
    if len(features) < 2:
        raise ExplanationError("the baseline is a mean over samples; give at least two, better 256")

    # The standard deviation over samples and cells.
    spread = features.std((0, 2, 3))[None, :, None, None]
    return features.mean(0, keepdim=True), spread.clamp_min(SMALLEST_SPREAD * float(spread.max()))
