"""Tiny random Stable Diffusion pipelines, built from configurations alone: the real classes, made in a second."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tailforge.schemas.jobs import ResolvedModel, SampleSpec, Slot
from tailforge.tasks.methods.planning.samples import derive_seed

WORDS = ("a", "photo", "of", "gear", "on", "wooden", "bench")


def tiny_tokenizer(length: int = 16) -> CLIPTokenizer:
    """BPE in which the `WORDS` are one token each and every other word is spelt in letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    merges: list[tuple[str, str]] = []
    for token in [*letters, *(letter + "</w>" for letter in letters)]:
        vocab[token] = len(vocab)
    for word in WORDS:
        left = word[0] if len(word) > 1 else word + "</w>"
        for i, letter in enumerate(word[1:], 1):
            right = letter + ("</w>" if i == len(word) - 1 else "")
            if left + right not in vocab:
                merges.append((left, right))
                vocab[left + right] = len(vocab)
            left += right
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)


def text_config(tokenizer: CLIPTokenizer, hidden: int) -> CLIPTextConfig:
    """Of a tiny CLIP text tower for this tokenizer."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=hidden,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _unet(features: int, **options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        norm_num_groups=4,
        layers_per_block=1,
        cross_attention_dim=features,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        **options,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        sample_size=32,
    )


def build_sd(
    prediction: str = "v_prediction", width: int = 16, seed: int = 0, **schedule: Any
) -> StableDiffusionPipeline:
    """A StableDiffusionPipeline of 32 x 32 images with latents of 16 x 16; `width` is that of its text."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer, width)).eval(),
        tokenizer=tokenizer,
        unet=_unet(width).eval(),
        scheduler=DDIMScheduler(
            **{"prediction_type": prediction, "clip_sample": False, "beta_schedule": "scaled_linear", "steps_offset": 1}
            | schedule
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_sd2() -> StableDiffusionPipeline:
    """A pipeline as Stable Diffusion 2: OpenCLIP's activation, linear projections, velocity, trailing timesteps."""
    pipeline = build_sd(timestep_spacing="trailing", rescale_betas_zero_snr=True)
    torch.manual_seed(1)
    text = text_config(pipeline.tokenizer, 16)
    text.hidden_act = "gelu"
    pipeline.text_encoder = CLIPTextModel(text).eval()
    pipeline.unet = _unet(16, use_linear_projection=True, upcast_attention=True).eval()
    return pipeline


def build_sdxl() -> StableDiffusionXLPipeline:
    """A StableDiffusionXLPipeline of 32 x 32 images with latents of 16 x 16."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer, 16)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, 24)).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tiny_tokenizer(),
        unet=_unet(
            40,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
            transformer_layers_per_block=(1, 2),
        ).eval(),
        scheduler=DDIMScheduler(clip_sample=False, beta_schedule="scaled_linear", steps_offset=1),
        add_watermarker=False,
    )


def save_sd(folder: Path) -> ResolvedModel:
    """The tiny Stable Diffusion as a directory."""
    build_sd().save_pretrained(folder)
    return ResolvedModel(path=str(folder), digest="0" * 64)


def make_samples(count: int, prompts: tuple[str, ...] = ("a photo of a gear on a wooden bench",)) -> list[SampleSpec]:
    """Samples that cycle through prompts, each with the slot "concept" on the word gear."""
    samples = []
    for i in range(count):
        prompt = prompts[i % len(prompts)]
        start = prompt.index("gear")
        samples.append(
            SampleSpec(
                sample_id=f"{i:016x}",
                seed=derive_seed(f"{i:016x}"),
                prompt_index=i % len(prompts),
                replica=i // len(prompts),
                prompt=prompt,
                slots=(Slot(name="concept", value="gear", start=start, end=start + 4),),
            )
        )
    return samples
