"""The embedded generator as a diffusers StableDiffusionPipeline directory: written after training, opened to measure.

Weights are stored in half precision and used in float32 on a CPU.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTextModel, CLIPTokenizer

from tasks.methods.train_diffusion import build_scheduler

SAMPLE_BATCH = 32


def export_generator(
    folder: Path, unet: UNet2DConditionModel, autoencoder: AutoencoderKL, clip: CLIPModel, tokenizer: CLIPTokenizer
) -> int:
    """Write the directory beside `folder` and swap it in; returns its size in bytes.

    `clip/` holds the whole CLIP with its preprocessing, for scores; `text_encoder/` repeats its text tower because
    every pipeline loader expects it there. A README.md that was in `folder` is kept.
    """
    beside = folder.with_name(folder.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_tower(clip),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16, silence_dtype_warnings=True).save_pretrained(beside)
    clip.to(dtype=torch.float16).save_pretrained(beside / "clip")
    tokenizer.save_pretrained(beside / "clip")
    _preprocessing(clip.config.vision_config.image_size).save_pretrained(beside / "clip")
    for model in (unet, autoencoder, clip):
        model.to(dtype=torch.float32)
    for config in beside.glob("*/config.json"):
        forget_origin(config)
    _swap(beside, folder)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def forget_origin(config: Path) -> None:
    """Take out the folder that a model was loaded from: it is one machine's, and would change the model's digest."""
    kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "_name_or_path"}
    config.write_text(json.dumps(kept, indent=2) + "\n")


def text_tower(clip: CLIPModel) -> CLIPTextModel:
    """A copy of CLIP's text tower as the stand-alone model that pipelines use."""
    tower = CLIPTextModel(clip.config.text_config)
    tower.load_state_dict(clip.text_model.state_dict() if _is_flat(tower) else _nested(clip))
    return tower.eval().requires_grad_(False)


def open_generator(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in float32, silent and local."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_images(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float
) -> NDArray[np.uint8]:
    """Plain sampling, one generator a picture: uint8 [N, H, W, 3]."""
    drawn = []
    for first in range(0, len(prompts), SAMPLE_BATCH):
        batch = slice(first, first + SAMPLE_BATCH)
        found = pipeline(
            list(prompts[batch]),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[batch]],
            output_type="np",
        )
        drawn.append((found.images * 255).round().astype(np.uint8))
    return np.concatenate(drawn)


def _is_flat(tower: CLIPTextModel) -> bool:
    return not any(key.startswith("text_model.") for key in tower.state_dict())


def _nested(clip: CLIPModel) -> dict[str, torch.Tensor]:
    return {f"text_model.{key}": value for key, value in clip.text_model.state_dict().items()}


def _preprocessing(size_px: int) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(
        size={"shortest_edge": size_px}, crop_size=size_px, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def _swap(beside: Path, folder: Path) -> None:
    if (folder / "README.md").exists():
        shutil.copy(folder / "README.md", beside / "README.md")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
