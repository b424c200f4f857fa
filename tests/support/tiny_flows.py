"""Tiny random Stable Diffusion 3 and Flux pipelines, built from configurations alone: the real classes."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from tailforge.schemas.jobs import ResolvedModel
from tests.support.tiny_generators import WORDS, text_config, tiny_tokenizer

WIDTH = 24  # of T5's features
SIDE = 32  # pixels of an image's side


def t5_tokenizer() -> T5Tokenizer:
    """Unigram in which the `WORDS` are one token each and every other word is spelt in letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(letter, -10.0) for letter in letters] + [(f"▁{word}", -3.0) for word in WORDS]
    return T5Tokenizer(vocab=vocab, extra_ids=0)


def t5_encoder(vocab: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=vocab, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return T5EncoderModel(config).eval()


def flow_vae(channels: int) -> AutoencoderKL:
    """Without quantising convolutions and with a shifted latent, as both families have it."""
    return AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        sample_size=SIDE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5,
        shift_factor=0.06,
    )


def build_sd3(t5: bool = True, **scheduler: Any) -> StableDiffusion3Pipeline:
    """A StableDiffusion3Pipeline of 32 x 32 images, whose tokens are 8 x 8; CLIP reads 16 tokens."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    third = t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=SIDE // 2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=20,
        pos_embed_max_size=16,
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler}),
        vae=flow_vae(4),
        text_encoder=CLIPTextModelWithProjection(text_config(tokenizer, 8)).eval(),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, 12)).eval(),
        tokenizer_2=tiny_tokenizer(),
        text_encoder_3=t5_encoder(len(third)) if t5 else None,
        tokenizer_3=third if t5 else None,
    )


def build_flux(guidance_embeds: bool = True) -> FluxPipeline:
    """A FluxPipeline whose images of 32 x 32 have 8 x 8 tokens; distilled to guidance as Flux-dev is, or not."""
    torch.manual_seed(0)
    tokenizer, second = tiny_tokenizer(), t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=16,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )
    return FluxPipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guidance_embeds),
        vae=flow_vae(4),
        text_encoder=CLIPTextModel(text_config(tokenizer, 16)).eval(),
        tokenizer=tokenizer,
        text_encoder_2=t5_encoder(len(second)),
        tokenizer_2=second,
    )


def save(pipeline: Any, folder: Path) -> ResolvedModel:
    """The pipeline as a directory."""
    pipeline.save_pretrained(folder)
    return ResolvedModel(path=str(folder), digest=folder.name)
