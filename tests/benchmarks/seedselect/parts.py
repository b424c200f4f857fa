"""What the SeedSelect benchmarks ask for: models, references, requests, aims."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tailforge.catalog.sources.models import MODELS, digest_model
from tailforge.schemas.jobs import ResolvedModel, SampleSpec
from tailforge.schemas.settings.engines import SearchEngine
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.generator import ImageGenerator
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.seed_select.aim import Aim
from tailforge.tasks.methods.seed_select.engine import Goal
from tailforge.tasks.methods.workshop import BALANCED, MATERIALS, SURFACES, render, sample_scene
from tailforge.tasks.models.clip import ClipScorer, load_clip
from tailforge.tasks.models.text_to_image import load_generator

REFERENCE_SEED = 987_654  # no pool of the training recipe has it
REFERENCES = 5


@dataclass(frozen=True)
class Bench:
    """The models, loaded once."""

    model: ImageGenerator
    encoder: ClipScorer


def open_bench() -> Bench:
    """The embedded generator with its own CLIP as the guide."""
    workshop = MODELS / "workshop"
    model = load_generator(ResolvedModel(path=str(workshop), digest=digest_model(workshop)))
    return Bench(model, load_clip(ResolvedModel(path=str(workshop), subfolder="clip", digest="guide")))


def render_references(part: str, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Renders of a part in materials and surfaces as they come."""
    found: list[NDArray[np.uint8]] = []
    index = 0
    while len(found) < count:
        scene = sample_scene(index, seed, BALANCED)
        if scene.part == part:
            found.append(render(scene).image)
        index += 1
    return found


def request(part: str, name: str, count: int) -> list[SampleSpec]:
    """Samples of a part, materials and surfaces in turn."""
    samples = []
    for number in range(count):
        sample_id = f"{derive_seed(f'{name}-{part}-{number}', 'benchmark'):016x}"
        material, surface = MATERIALS[number % len(MATERIALS)], SURFACES[(number + number // 6) % len(SURFACES)]
        prompt = f"a photo of a {material} {part} on a {surface}"
        samples.append(
            SampleSpec(
                sample_id=sample_id,
                seed=derive_seed(sample_id),
                prompt_index=number,
                replica=0,
                prompt=prompt,
                slots=(),
            )
        )
    return samples


@torch.no_grad()
def make_goal(bench: Bench, part: str, seed: int, engine: SearchEngine) -> Goal:
    """The aim at a part, from references of this seed and plain samples."""
    pictures = to_tensor(np.stack(render_references(part, REFERENCES, REFERENCE_SEED + seed)))
    references = torch.cat([bench.encoder.embed_pixels(picture[None]) for picture in pictures])
    latents = torch.cat([bench.model.encode(picture[None]) for picture in pictures]).mean(0)
    few = engine.model_copy(update={"steps": engine.few_steps, "batch_size": 16})
    plain = [
        bench.encoder.embed_pixels(to_tensor(made.pixels[None]))
        for made in render_plain(bench.model, request(part, f"aim-{seed}", engine.plain_samples), few, None, Clock())
        if made.pixels is not None
    ]
    return Goal(bench.encoder, Aim(references, torch.cat([*plain, references[:0]]), latents))
