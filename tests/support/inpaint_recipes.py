"""Recipes of engine inpaint: photographs of good parts, rendered by the workshop, and defects drawn into them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tailforge.tasks.methods.workshop.render import render
from tailforge.tasks.methods.workshop.scenes import LONG_TAIL, sample_scene
from tests.support.tiny_recipes import write_recipe

ENGINE: dict[str, Any] = {
    "kind": "inpaint",
    "steps": 4,
    "batch_size": 4,
    "sources": {"folder": "good", "license": "CC0-1.0"},
    "regions": {"shapes": ["blob"], "area": [0.15, 0.3]},
}


def write_parts(folder: Path, count: int = 6, size_px: int = 64, *, split: bool = False, grouped: bool = False) -> Path:
    """Write renders with masks of their parts; with `split` a third is for test, with `grouped` two are one object."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        made = render(sample_scene(number, 5, LONG_TAIL), size_px)
        Image.fromarray(made.image).save(folder / f"{number:03}.png")
        Image.fromarray(made.mask.astype(np.uint8)).save(folder / f"{number:03}_part.png")
        line: dict[str, Any] = {"file_name": f"{number:03}.png", "mask": f"{number:03}_part.png"}
        line |= {"split": "test" if number // 2 % 3 == 2 else "train"} if split else {}
        lines.append(line | ({"group": f"object {number // 2}"} if grouped else {}))
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def write_inpaint(folder: Path, engine: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write a recipe that draws into the photographs in `good` by the embedded generator; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {
        "generator": {"model": "catalog:workshop"},
        "engine": ENGINE | (engine or {}),
        "concepts": [{"name": "gear", "requested": 5}, {"name": "hook", "requested": 3}],
        "prompts": {"templates": ["a photo of a {concept}"]},
        "quality": {"gates": {"contrast": {"min": 0.001}}, "oversample": 1.3, "max_rounds": 2},
    }
    return write_recipe(folder, **(recipe | changes))
