"""A recipe that spends its images by gain: the embedded generator, and renders of the workshop as real images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from tailforge.tasks.methods.workshop import Scene, render, sample_scene

COUNTS: Mapping[str, Mapping[str, int]] = {
    "train": {"gear": 8, "bolt": 8, "washer": 2},
    "validation": {"gear": 6, "bolt": 6, "washer": 6},
}
FEW = {"steps": 12, "batch": 16, "checks": 2, "learning_rate": 0.05}


def write_renders(folder: Path, counts: Mapping[str, Mapping[str, int]] = COUNTS, side: int = 32) -> Path:
    """Write folders of splits and classes with renders of parts of the workshop; return the folder."""
    for place, (split, wanted) in enumerate(counts.items()):
        for part, count in wanted.items():
            own = folder / split / part
            own.mkdir(parents=True)
            for number in range(count):
                drawn = render_part(part, 10_000 * place + number)
                drawn.resize((side, side), Image.Resampling.LANCZOS).save(own / f"{number:04}.png")
    return folder


def render_part(part: str, number: int) -> Image.Image:
    """Return a render of a part; equal numbers give equal pictures."""
    scene = sample_scene(number, 77, {part: 1.0})
    return Image.fromarray(render(Scene(part, scene.material, scene.surface, scene.seed)).image)


def steered_recipe(folder: Path, allocation: Mapping[str, Any] | None = None, **changes: Any) -> Path:
    """Write a recipe of two concepts beside `folder`/real; return its path. `allocation`: changed settings."""
    chosen = {
        "by": "gain",
        "budget": 24,
        "round": 8,
        "real": {"folder": "real"},
        "judge": FEW,
        "seeds": 1,
        "floor": 0.0,
        "keep": 0.5,
    }
    recipe = {
        "name": "steered",
        "description": "Machine parts, drawn where they help.",
        "seed": 3,
        "generator": {"model": "catalog:workshop"},
        "engine": {"kind": "plain", "steps": 2, "guidance": 1.5, "batch_size": 4},
        "concepts": [{"name": "gear", "requested": 40}, {"name": "washer", "requested": 40}],
        "prompts": {
            "templates": ["a photo of a {concept} on a {place}", "a {concept} on a {place}"],
            "attributes": {"place": ["wooden bench", "concrete floor", "dark metal plate"]},
        },
        "quality": {"gates": {"contrast": {"min": 0.001}}, "near_duplicates": None},
        "allocation": chosen | dict(allocation or {}),
        **changes,
    }
    path = folder / "steered.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path
