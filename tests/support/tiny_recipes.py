"""A recipe that builds in seconds: two concepts, a tiny random generator beside it, gates that most images pass."""

import copy
from pathlib import Path
from typing import Any

import yaml

TINY: dict[str, Any] = {
    "name": "tiny",
    "description": "Random pictures of a tiny generator.",
    "seed": 1,
    "generator": {"model": "generator"},
    "engine": {"kind": "plain", "steps": 2, "guidance": 1.5, "batch_size": 4},
    "concepts": [{"name": "gear", "requested": 9}, {"name": "bench", "requested": 6}],
    "splits": {"train": 0.7, "test": 0.3},
    "prompts": {
        "templates": ["a photo of a {concept} on a {place}", "a {concept} on a {place}"],
        "attributes": {"place": ["wooden bench", "bench", "photo"]},
    },
    "quality": {"gates": {"contrast": {"min": 0.001}}, "near_duplicates": None, "oversample": 1.3, "max_rounds": 2},
    "sharding": {"max_samples": 5},
    "partition_size": 4,
}


def write_recipe(folder: Path, **changes: Any) -> Path:
    """Write the tiny recipe with some top-level keys replaced (None removes a key); returns its path."""
    recipe = copy.deepcopy(TINY) | changes
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}))
    return path
