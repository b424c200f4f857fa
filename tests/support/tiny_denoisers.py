"""A tiny UNet with words as rows of numbers, for tests of the training: real classes, no tokenizer, no autoencoder."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from tailforge.schemas.training.generator import LearningSettings, StructureSettings
from tailforge.tasks.methods.generator_training.batches import EpochSampler, Examples
from tailforge.tasks.methods.generator_training.denoising import Network
from tailforge.tasks.methods.generator_training.devices import OneDevice
from tailforge.tasks.methods.generator_training.noise import NoiseSchedule
from tailforge.tasks.methods.generator_training.structure_encoder import StructureEncoder
from tailforge.tasks.methods.generator_training.structure_game import StructureGame
from tailforge.tasks.methods.sampling.generator import Conditioning

WIDTH = 8


def tiny_unet(seed: int = 0) -> UNet2DConditionModel:
    """Of latents [B, 4, 8, 8]."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def tiny_network(seed: int = 0, source: UNet2DConditionModel | None = None) -> Network:
    """A UNet of its own, every weight learning."""
    unet = tiny_unet(seed)
    return Network(
        unet, calling(unet), embed, tiny_schedule(), unet.conv_out.weight, calling(source) if source else None
    )


def calling(unet: UNet2DConditionModel):  # type: ignore[no-untyped-def]
    def denoise(noisy: Tensor, times: Tensor, text: Conditioning) -> Tensor:
        found: Tensor = unet(noisy, times, encoder_hidden_states=text.embeds).sample
        return found

    return denoise


def embed(captions: Sequence[str]) -> Conditioning:
    rows = [np.random.default_rng(list(caption.encode())).normal(size=(2, WIDTH)) for caption in captions]
    return Conditioning(torch.from_numpy(np.stack(rows)).float())


def tiny_schedule() -> NoiseSchedule:
    return NoiseSchedule(DDPMScheduler(beta_schedule="scaled_linear").alphas_cumprod, "epsilon")


def tiny_examples(count: int = 24, seed: int = 0) -> Examples:
    """Latents whose left or right half is bright, as their caption says."""
    draws = np.random.default_rng(seed)
    latents = 0.3 * draws.normal(size=(count, 4, 8, 8)).astype(np.float32)
    sides = draws.integers(2, size=count)
    for row, side in enumerate(sides):
        latents[row, :, :, 4 * side : 4 * side + 4] += 1
    return Examples(latents, [("left", "right")[side] for side in sides], np.arange(count))


def tiny_sampler(settings: LearningSettings, examples: Examples | None = None) -> EpochSampler:
    """The batches of a recipe's learning settings."""
    return EpochSampler(examples or tiny_examples(), settings.batch, settings.prompt_dropout, settings.seed)


def tiny_settings(**changes: object) -> LearningSettings:
    settings: dict[str, object] = {"steps": 6, "batch": 8, "shared_noise": 4, "learning_rate": 1e-3, "ema_decay": 0.5}
    return LearningSettings.model_validate(settings | changes)


def tiny_game(arm: str = "sadm", **changes: object) -> StructureGame:
    settings = StructureSettings.model_validate({"arm": arm, "group": 4, "warm_up": 0.0} | changes)
    torch.manual_seed(7)
    return StructureGame(StructureEncoder(4, 8), settings, lambda latents: latents, OneDevice())
