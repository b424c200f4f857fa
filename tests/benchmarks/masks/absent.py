"""Planted absences: captions that name a part which the picture does not hold.

A picture is a render, so what it holds is known. Its caption names the part that is drawn, a part where nothing but the
surface is drawn, or another part than the drawn one. Each picture is read twice: as sampling reads it, and noised.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.settings.annotation import Annotation
from tailforge.tasks.methods.masks.soft_masks import Word, outline_words, soften_words
from tailforge.tasks.methods.sampling.rendered import cut_batches
from tailforge.tasks.methods.sampling.renoised_attention import Captioned, read_attention
from tailforge.tasks.methods.workshop import BALANCED, PARTS, Scene, caption, render, sample_scene
from tailforge.tasks.methods.workshop.surfaces import TEXTURES
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tests.benchmarks.masks.images import DRAWS, OURS, Set
from tests.benchmarks.masks.objects import NOISE, RIGHT
from tests.benchmarks.masks.sampled_reading import BATCH, read_like_sampling

DRAWN, NOTHING, ANOTHER = "the part is drawn", "nothing is drawn", "another part is drawn"
CASES = (DRAWN, NOTHING, ANOTHER)
READINGS = ("as sampling", "noised")
SIDE = 64


def plant(case: str, number: int, seed: int) -> tuple[Captioned, NDArray[np.bool_]]:
    """A captioned picture of one of CASES, and the true mask [H, W] of the word; empty for an absent part."""
    scene = sample_scene(number, seed, BALANCED)
    if case == NOTHING:
        return caption_part(draw_surface(scene), scene, scene.part), np.zeros((SIDE, SIDE), np.bool_)
    made = render(scene)
    if case == DRAWN:
        return caption_part(made.image, scene, scene.part), made.mask
    shift = 1 + np.random.default_rng((scene.seed, 6)).integers(len(PARTS) - 1)
    other = PARTS[(PARTS.index(scene.part) + shift) % len(PARTS)]
    return caption_part(made.image, scene, other), np.zeros_like(made.mask)


def draw_surface(scene: Scene) -> NDArray[np.uint8]:
    """The surface of a scene, without part and shadow."""
    axis = ((np.arange(SIDE) + 0.5) * (2 / SIDE) - 1).astype(np.float32)
    x, y = np.broadcast_to(axis, (SIDE, SIDE)), np.broadcast_to(axis[:, None], (SIDE, SIDE))
    colours = TEXTURES[scene.surface](x, y, 2 / SIDE, np.random.default_rng((scene.seed, 2)))
    return np.ascontiguousarray((np.clip(colours, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def caption_part(image: NDArray[np.uint8], scene: Scene, part: str) -> Captioned:
    """The picture with the caption of a scene that has this part, and its word."""
    text = caption(replace(scene, part=part))
    start = text.index(part)
    return Captioned(image, text, ((start, start + len(part)),), scene.seed)


def make_planted(model: DiffusersGenerator, case: str, seed: int, count: int) -> Set:
    """Planted pictures of one of CASES, each with both readings."""
    made = [plant(case, number, seed) for number in range(count)]
    pictures = [picture for picture, _ in made]
    reads = [
        read
        for batch in cut_batches(pictures, BATCH)
        for read in (*read_like_sampling(model, batch), *read_attention(model, batch, NOISE, DRAWS))
    ]
    order = [number for batch in cut_batches(list(range(count)), BATCH) for _ in READINGS for number in batch]
    return {
        "images": np.stack([pictures[number].pixels for number in order]),
        "truth": np.stack([made[number][1] for number in order]),
        f"maps/{OURS}": np.stack([read.maps for read in reads]),
        "agreement": np.array([read.agreement for read in reads]),
    }


def score_planted(made: Set, least: float) -> dict[str, float]:
    """Share of words with a mask, and their confidence; right masks and overlap where the part is drawn."""
    asked, areas, sure, scores = Annotation(), [], [], []
    for maps, image, agreed, truth in zip(
        made[f"maps/{OURS}"], made["images"], made["agreement"].tolist(), made["truth"], strict=True
    ):
        words = soften_words(maps.astype(np.float32), [Word(0, 1)], image, asked, agreed, least)
        (found,) = outline_words(words, asked, agreed).outlines
        areas.append(found.region.mean())
        sure.append(found.confidence)
        scores.append((found.region & truth).sum() / max(1, (found.region | truth).sum()))
    masked = np.array(areas) > 0
    shown = {"with_a_mask": masked.mean(), "largest_area": max(areas), "highest_confidence": max(sure)}
    if made["truth"].any():
        shown["precision_kept"] = (np.array(scores)[masked] >= RIGHT).mean()
    return {name: float(value) for name, value in shown.items()}
