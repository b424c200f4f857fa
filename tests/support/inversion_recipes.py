"""A small teacher on the disk, and a recipe that inverts it in seconds."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.support.tiny_recipes import write_recipe
from tests.support.tiny_teachers import TinyTeacher, tiny_teacher

NAMES = ("plate", "gear", "ring", "hook")  # in another order than the recipe's concepts
MODULE = "tests.support.tiny_teachers:CifarResNet"
SIDE = 16


def save_teacher(folder: Path, names: tuple[str, ...] = NAMES, seed: int = 0) -> TinyTeacher:
    """A plain torch module as a user would save it; another `seed` changes its last layer a little."""
    teacher = tiny_teacher(len(names), SIDE)
    if seed:
        with torch.no_grad():
            random = torch.Generator().manual_seed(seed)
            weight = teacher.module.linear.weight
            weight.add_(torch.randn(weight.shape, generator=random) * weight.std() / 2)
    folder.mkdir(parents=True)
    save_file(teacher.module.state_dict(), folder / "model.safetensors")
    arguments = {"widths": [4, 6, 8], "classes": len(names), "blocks": 1}
    config = {"arguments": arguments, "id2label": dict(enumerate(names)), "num_channels": 3}
    (folder / "config.json").write_text(json.dumps(config))
    preparation = {"image_mean": teacher.mean, "image_std": teacher.std, "size": [SIDE, SIDE]}
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    return teacher


def inversion_recipe(folder: Path, engine: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write a recipe for the teacher in `folder`/teacher; returns its path."""
    fast = {"kind": "natural_inversion", "steps": 4, "batch_size": 8, "latent_size": 8, "width": 8, "score_every": 2}
    if engine is not None and engine.get("form") == "pixels":  # which has no generator
        del fast["latent_size"], fast["width"]
    values: dict[str, Any] = {
        "generator": {"model": "teacher", "module": MODULE},
        "engine": fast | (engine or {}),
        "concepts": [{"name": name, "requested": 3} for name in ("gear", "hook", "plate", "ring")],
        "prompts": {"templates": ["a photo of a {concept}"]},
        "quality": {"gates": {}, "near_duplicates": None, "oversample": 1.0, "max_rounds": 1},
        "splits": {"train": 1.0},
        "partition_size": None,
    }
    return write_recipe(folder, **values | changes)
