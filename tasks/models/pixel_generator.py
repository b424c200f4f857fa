"""Build an untrained generator for small photographs: Stable Diffusion's parts, with pixels as latents.

An autoencoder that was trained on other pictures loses what makes a class of small photographs. So this one loses
nothing: its weights are set by hand. They pass each pixel on, normalised by mean and standard deviation. The tokenizer
learns the captions, the text encoder is random and stays so: it tells captions apart, and cross-attention learns them.
Letters of shapes: B images, H and W pixel rows and columns, L latent channels, 1 for grey photographs and 3 for others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tailforge.tasks.methods.embedded.clip import train_tokenizer
from tailforge.tasks.methods.embedded.diffusion import build_scheduler
from tailforge.tasks.models.pipeline_folders import forget_origin

VERSION = "pixels.2"
VOCABULARY, TOKENS = 2048, 32
TEXT_WIDTH, TEXT_HEADS = 64, 4
GROUPS = 16  # of normalisation; a group of one channel would take timestep and caption away again
ANCHOR = 1000.0  # constant channels, so large that normalisation hardly depends on the picture
POSITIVE = 20.0  # from here on SiLU is the identity
SILENT = -30.0  # logarithm of the posterior's variance


@dataclass(frozen=True)
class PixelNorm:
    """Mean and standard deviation of pixels in -1..1, one per latent channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def lift(self) -> float:
        """What all normalised pixels need so that they are above POSITIVE."""
        return POSITIVE + max((1 + abs(mean)) / std for mean, std in zip(self.mean, self.std, strict=True))


def build_autoencoder(norm: PixelNorm, size: tuple[int, int]) -> AutoencoderKL:
    """Return an autoencoder whose latents [B, L, H, W] are the normalised pixels of images [B, 3, H, W].

    Decoded images differ from the encoded ones by less than a thousandth of their range. L is 1 (the mean of the
    colours) or 3.
    """
    count = len(norm.mean)
    model: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(2 * count + 2,),
        layers_per_block=1,
        latent_channels=count,
        norm_num_groups=1,
        sample_size=max(size),
        scaling_factor=1.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    mean, std = torch.tensor(norm.mean), torch.tensor(norm.std)

    # Pixels to latents: the colours, or their mean if there is one channel.
    colours = torch.eye(3) if count == 3 else torch.full((1, 3), 1 / 3)
    with torch.no_grad():
        _pass_on(model.encoder, colours / std[:, None], -mean / std)
        _read_out(model.encoder, torch.eye(count), torch.zeros(count), norm.lift)
        model.encoder.conv_out.bias[count:] = SILENT

        # Latents to pixels: one channel becomes three equal ones.
        _pass_on(model.decoder, torch.eye(count), torch.zeros(count))
        back = torch.diag(std) if count == 3 else std.expand(3, 1)
        _read_out(model.decoder, back, mean.expand(3), norm.lift)
    made: AutoencoderKL = model.eval().requires_grad_(False)
    return made


def _pass_on(coder: Any, weight_LC: Tensor, bias_L: Tensor) -> None:
    """Let a coder begin with an affine map of each pixel, and change nothing until its last normalisation."""
    # Channels: the values, their negatives, and two constants. So the mean of all is 0, and the variance is known.
    count = len(bias_L)
    first = coder.conv_in
    first.weight.zero_()
    first.weight[: 2 * count, :, 1, 1] = torch.cat([weight_LC, -weight_LC])
    first.bias.copy_(torch.cat([bias_L, -bias_L, torch.tensor([ANCHOR, -ANCHOR])]))

    # A residual block whose convolutions are zero is the identity.
    for name, block in coder.named_modules():
        if name.endswith(("conv1", "conv2")):
            block.weight.zero_()
            block.bias.zero_()


def _read_out(coder: Any, weight_CL: Tensor, bias_C: Tensor, lift: float) -> None:
    """Let a coder end with an affine map of the values that `_pass_on` handed on."""
    # Undo the normalisation, whose standard deviation is that of the two constants.
    count, channels = weight_CL.shape[1], coder.conv_in.out_channels
    coder.conv_norm_out.weight.fill_(ANCHOR * math.sqrt(2 / channels))
    coder.conv_norm_out.bias.fill_(lift)

    # SiLU passes lifted values on. Take the lift away again.
    last = coder.conv_out
    last.weight.zero_()
    last.bias.zero_()
    last.weight[: len(bias_C), :count, 1, 1] = weight_CL
    last.bias[: len(bias_C)] = bias_C - lift * weight_CL.sum(1)


def build_text_encoder(captions: Sequence[str], seed: int) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Return a tokenizer of these captions and a random text encoder, whose features are [B, TOKENS, TEXT_WIDTH]."""
    tokenizer = train_tokenizer(list(captions), VOCABULARY, TOKENS)
    settings = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH * 4,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        initializer_factor=10.0,  # small random weights would map all captions to nearly the same features
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = CLIPTextModel(settings)
    return tokenizer, encoder.eval().requires_grad_(False)


def build_unet(size: tuple[int, int], channels: int, widths: Sequence[int], seed: int) -> UNet2DConditionModel:
    """Return an untrained UNet for latents [B, channels, H, W], with attention at the lowest resolution alone.

    The whole caption is also added to the timestep's embedding, so that every block reads it.
    """
    levels = len(widths) - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=list(size),
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=tuple(widths),
            down_block_types=("DownBlock2D",) * levels + ("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * levels,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,
            norm_num_groups=min(GROUPS, min(widths) // 2),
            addition_embed_type="text",
            addition_embed_type_num_heads=TEXT_HEADS,
        )


def write_untrained(
    folder: Path, size: tuple[int, int], norm: PixelNorm, captions: Sequence[str], widths: Sequence[int], seed: int
) -> None:
    """Write an untrained pipeline for images of `size` (height, width) and these captions to a new folder."""
    tokenizer, text_encoder = build_text_encoder(sorted(set(captions)), seed)
    pipeline = StableDiffusionPipeline(
        vae=build_autoencoder(norm, size),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=build_unet(size, len(norm.mean), widths, seed),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)

    # The same photographs make the same files on every machine.
    for config in folder.glob("*/config.json"):
        forget_origin(config)
