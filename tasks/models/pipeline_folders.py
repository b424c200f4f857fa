"""Write, replace and open our own folders of Stable Diffusion pipelines."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

SAMPLE_BATCH = 32


def swap_folder(beside: Path, folder: Path) -> None:
    """Replace `folder`, if it exists, by the finished folder `beside`. A kill leaves the old one there or as .old."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def forget_origin(config: Path) -> None:
    """Remove the folder from which a model was loaded: it differs per machine and would change the model's digest."""
    kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "_name_or_path"}
    config.write_text(json.dumps(kept, indent=2) + "\n")


def open_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Open a local pipeline in float32, without progress bars."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_images(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float
) -> NDArray[np.uint8]:
    """Sample one picture per prompt and seed: uint8 [N, H, W, 3]."""
    # Each picture has a random generator of its own, so batches do not matter.
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
