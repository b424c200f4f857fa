"""Write the embedded generator, after its training, as a directory of a diffusers StableDiffusionPipeline.

Weights are stored in half precision. A CPU uses them in float32.
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTextModel, CLIPTokenizer

from tailforge.tasks.methods.embedded.diffusion import build_scheduler
from tailforge.tasks.models.pipeline_folders import forget_origin, swap_folder


def export_generator(
    folder: Path, unet: UNet2DConditionModel, autoencoder: AutoencoderKL, clip: CLIPModel, tokenizer: CLIPTokenizer
) -> int:
    """Write the generator to a new directory, replace `folder` by it, and return its size in bytes.

    `clip/` holds the whole CLIP with its preprocessing, for scores. `text_encoder/` repeats the text tower, because
    every pipeline loader expects it there. A README.md in `folder` is kept.
    """
    # The pipeline in its directory of parts.
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

    # CLIP with tokenizer and preprocessing.
    clip.to(dtype=torch.float16).save_pretrained(beside / "clip")
    tokenizer.save_pretrained(beside / "clip")
    _preprocessing(clip.config.vision_config.image_size).save_pretrained(beside / "clip")

    # The caller's models return to float32.
    for model in (unet, autoencoder, clip):
        model.to(dtype=torch.float32)

    # The same weights make the same files on every machine.
    for config in beside.glob("*/config.json"):
        forget_origin(config)
    if (folder / "README.md").exists():
        shutil.copy(folder / "README.md", beside / "README.md")
    swap_folder(beside, folder)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def text_tower(clip: CLIPModel) -> CLIPTextModel:
    """Return a copy of CLIP's text tower as the separate model that pipelines use."""
    # Versions of transformers differ in the names of its weights.
    tower = CLIPTextModel(clip.config.text_config)
    tower.load_state_dict(clip.text_model.state_dict() if _is_flat(tower) else _nested(clip))
    return tower.eval().requires_grad_(False)


def _is_flat(tower: CLIPTextModel) -> bool:
    return not any(key.startswith("text_model.") for key in tower.state_dict())


def _nested(clip: CLIPModel) -> dict[str, torch.Tensor]:
    return {f"text_model.{key}": value for key, value in clip.text_model.state_dict().items()}


def _preprocessing(size_px: int) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(
        size={"shortest_edge": size_px}, crop_size=size_px, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
