"""What the benchmark of regional primitives explains: the embedded generator's decoder, trained and untrained.

Latents are drawn by the embedded generator itself, once for a work folder; both decoders read the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from tailforge.catalog.sources.models import MODELS
from tailforge.tasks.methods.regional_primitives.demands import Subject
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.sampling.generator import join_conditionings
from tailforge.tasks.methods.sampling.plain import draw_noise, sample_latents
from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES
from tailforge.tasks.models.explained_generator import explain_decoder
from tailforge.tasks.models.pipeline_folders import open_pipeline
from tailforge.tasks.models.unet_generator import UNetGenerator

LAYER = "decoder.up_blocks.2"
GRID = PatchGrid(6, 6, 64, 64)
STEPS, GUIDANCE = 10, 3.0
SAMPLES, BACKGROUND = 16, 256
BATCH = 32
SEED = 4100


@dataclass(frozen=True)
class Drawn:
    """Clean latents [N, C, h, w] with their prompts: those to explain, and those whose mean feature is the baseline."""

    samples: Tensor
    prompts: tuple[str, ...]
    background: Tensor


def open_model(random_weights: bool = False) -> UNetGenerator:
    """The embedded generator; with random weights its autoencoder is a fresh one of the same structure."""
    pipeline = open_pipeline(MODELS / "workshop")
    if random_weights:
        torch.manual_seed(SEED)
        pipeline.vae = AutoencoderKL.from_config(pipeline.vae.config).eval()
    pipeline.vae.requires_grad_(False)
    pipeline.unet.requires_grad_(False)
    return UNetGenerator(pipeline)


def list_prompts(count: int) -> list[str]:
    """Prompts with parts, materials and surfaces drawn alike."""
    rng = np.random.default_rng(SEED)
    words = [[kinds[i] for i in rng.integers(len(kinds), size=count)] for kinds in (MATERIALS, PARTS, SURFACES)]
    return [f"a photo of a {material} {part} on a {surface}" for material, part, surface in zip(*words, strict=True)]


def open_latents(model: UNetGenerator, work: Path) -> Drawn:
    """Drawn once; later read from the work folder."""
    prompts, file = list_prompts(SAMPLES + BACKGROUND), work / "latents.pt"
    if not file.exists():
        torch.save(draw_latents(model, prompts), file)
    latents = torch.load(file)
    return Drawn(latents[:SAMPLES], tuple(prompts[:SAMPLES]), latents[SAMPLES:])


@torch.no_grad()
def draw_latents(model: UNetGenerator, prompts: Sequence[str]) -> Tensor:
    """One clean latent a prompt, each from the seed of its number."""
    texts = {prompt: model.encode_prompt(prompt) for prompt in set(prompts)}
    found = []
    for first in range(0, len(prompts), BATCH):
        batch = prompts[first : first + BATCH]
        noise = draw_noise(
            model, [torch.Generator().manual_seed(SEED + first + i) for i in range(len(batch))], *model.default_size
        )
        scheduler = model.make_scheduler("ddim")
        scheduler.set_timesteps(STEPS, device=model.device)
        text = join_conditionings([texts[prompt] for prompt in batch])
        found.append(sample_latents(model, scheduler, noise, text, model.encode_negative(""), GUIDANCE, ()))
    return torch.cat(found)


def open_subject(
    model: UNetGenerator, drawn: Drawn, number: int, background: Tensor | None = None, layer: str = LAYER
) -> Subject:
    """One sample's feature, with the mean over the background (by default all of it) as baseline."""
    chosen = drawn.background if background is None else background
    return explain_decoder(model, drawn.samples[number : number + 1], chosen, layer)
