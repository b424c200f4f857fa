"""Photographs of the workshop, and one build per arm that draws defects into them.

Good parts of all materials and photographs of each defect are rendered, so they stand for photographs and are none.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.flows.build.prepare import prepare_build
from tailforge.schemas.jobs import BuildContext
from tailforge.tasks.engines.work.drawing import choose_for_sample
from tailforge.tasks.methods.workshop import BALANCED, DEFECTS, Scene, render, sample_scene
from tests.benchmarks.defects.accuracy import Mask, Pixels, Published
from tests.support.local_builds import build_here

GOOD, EACH = 40, 5  # photographs of good parts, and of each defect
LICENSE = "CC0-1.0"
INPAINT: Mapping[str, Any] = {"kind": "inpaint", "steps": 16, "guidance": 3.0, "batch_size": 8}
CLIP = {"model": "catalog:workshop", "subfolder": "clip"}
ENGINES: Mapping[str, Mapping[str, Any]] = {
    "ours": INPAINT,
    "ours_search": {**INPAINT, "search": {"candidates": 8, "encoder": CLIP}},
    "copy_paste": {"kind": "copy_paste", "defects_license": LICENSE},
    "cut_paste": {"kind": "cut_paste"},
    "noise_texture": {"kind": "noise_texture"},
}


def write_photographs(folder: Path, seed: int) -> None:
    """Write `good` with masks of the parts, and one folder per defect with masks of the defects."""
    for number in range(GOOD):
        made = render(sample_scene(number, seed, BALANCED))
        _write(folder / "good", number, made.image, made.mask)
    for kind, materials in DEFECTS.items():
        for number in range(EACH):
            # Another seed of the data set per defect; a material that can have it.
            scene = sample_scene(number, seed + 1 + list(DEFECTS).index(kind), BALANCED)
            made = render(Scene(scene.part, materials[number % len(materials)], scene.surface, scene.seed, kind))
            _write(folder / kind, number, made.image, made.defect)


def _write(folder: Path, number: int, image: Pixels, mask: Mask) -> None:
    """Write a photograph with its mask, and add both to the folder's metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f"{number:03}.png")
    Image.fromarray(mask.astype(np.uint8)).save(folder / f"{number:03}_mask.png")
    with (folder / "metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"file_name": f"{number:03}.png", "mask": f"{number:03}_mask.png"}) + "\n")


def write_recipe(folder: Path, arm: str, seed: int, images: int) -> Path:
    """Write the recipe of an arm: `images` of each defect, drawn into the photographs of the folder."""
    own = {kind: {"folder": kind} for kind in DEFECTS}
    engine: dict[str, Any] = dict(ENGINES[arm]) | {
        "sources": {"folder": "good", "license": LICENSE},
        "concept_regions": {kind: {"kind": "references", **place} for kind, place in own.items()},
    }
    recipe: dict[str, Any] = {
        "name": f"defects-{arm}".replace("_", "-"),
        "description": "Defects drawn into rendered parts.",
        "license": LICENSE,
        "seed": seed,
        "engine": engine | ({"defects": own} if engine["kind"] == "copy_paste" else {}),
        "concepts": [{"name": kind, "requested": images} for kind in DEFECTS],
        "prompts": {"templates": ["a photo of a part with a {concept}"]},
        "quality": {"gates": "none", "oversample": 1.0, "max_rounds": 1},
    }
    recipe |= {"generator": {"model": "catalog:workshop"}} if engine["kind"] == "inpaint" else {}
    path = folder / f"{arm}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path


def draw(folder: Path, arm: str, seed: int, images: int) -> list[Published]:
    """Return the published images of an arm and seed, built in the folder; a second call builds nothing."""
    photographs = folder / f"photographs-{seed}"
    if not (photographs / "good").exists():
        write_photographs(photographs, seed)
    context = prepare_build(str(write_recipe(photographs, arm, seed, images)), str(folder / f"store-{seed}"))
    return list(read_published(context, build_here(context)))


def read_published(context: BuildContext, version: Path) -> Iterator[Published]:
    """Yield the images of a version with what they were made of."""
    generated = context.recipe.engine.needs_generator
    for sample in open_dataset(version.as_posix(), split="train"):
        chosen = choose_for_sample(context, sample["json"]["concept"], sample["json"]["sample_id"])
        image, mask, photograph = np.asarray(sample["image"]), np.asarray(sample["mask"]) > 0, chosen.source.pixels
        # Without a generator a pixel changes only where something was pasted.
        exact = None if generated else (image != photograph).any(axis=-1)
        yield Published(image, mask, photograph, np.any(chosen.regions, axis=0), exact)
