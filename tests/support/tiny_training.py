"""A training recipe and a world so small that every trainer runs in seconds."""

from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tailforge.schemas.training.embedded import TrainingRecipe
from tailforge.tasks.methods.workshop import HEAD_PARTS, MATERIALS, PARTS, SURFACES, TAIL_PARTS


def tiny_recipe(**changes: Any) -> dict[str, Any]:
    """A valid recipe as plain values; `changes` are dotted keys with double underscores: autoencoder__steps=4."""
    counts = dict.fromkeys(PARTS, 4)
    recipe: dict[str, Any] = {
        "name": "tiny",
        "seed": 5,
        "size_px": 32,
        "workers": 1,
        "threads": 1,
        "checkpoint_every_s": 1000.0,
        "long_tailed": {"seed": 1, "part_counts": counts},
        "balanced": {"seed": 2, "part_counts": counts},
        "held_out": {"seed": 3, "part_counts": dict.fromkeys(PARTS, 1)},
        **_tiny_modules(),
        "evaluation": {"images_per_part": 1, "steps": 2, "guidance": 2.0, "seed": 7},
    }
    for key, value in changes.items():
        at = recipe
        *path, last = key.split("__")
        for name in path:
            at = at[name]
        at[last] = value
    return yaml.safe_load(yaml.safe_dump(recipe))  # type: ignore[no-any-return]


def _tiny_modules() -> dict[str, Any]:
    """What is trained: every network with its steps."""
    weights = dict.fromkeys(HEAD_PARTS, 0.12) | dict.fromkeys(TAIL_PARTS, 0.01)
    return {
        "autoencoder": {
            "steps": 4,
            "batch": 2,
            "crop_px": 16,
            "channels": [16, 16, 16],
            "learning_rate": 0.002,
            "ema_decay": 0.5,
        },
        "clip": {
            "steps": 4,
            "image_steps": 2,
            "batch": 4,
            "width": 32,
            "text_layers": 1,
            "vision_layers": 1,
            "patch_px": 8,
            "projection": 16,
            "tokens": 24,
            "vocabulary": 700,
            "learning_rate": 0.002,
            "ema_decay": 0.5,
        },
        "diffusion": {
            "batch": 4,
            "total_images": 30,
            "channels": [16, 32],
            "heads": 2,
            "prompt_dropout": 0.1,
            "ema_decay": 0.5,
            "phases": [
                {"steps": 2, "learning_rate": [0.0, 0.001], "part_weights": weights},
                {"steps": 2, "learning_rate": [0.001, 0.001], "part_weights": weights},
            ],
        },
        "judges": {
            "classifier_steps": 4,
            "segmenter_steps": 4,
            "batch": 2,
            "classifier_width": 8,
            "segmenter_width": 8,
            "learning_rate": 0.002,
            "ema_decay": 0.5,
        },
    }


def tiny_settings(**changes: Any) -> TrainingRecipe:
    """`tiny_recipe`, checked."""
    return TrainingRecipe.model_validate(tiny_recipe(**changes))


def plain_pictures(count: int, size_px: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int16]]:
    """Pictures, masks and labels of squares whose place and colour follow from the labels."""
    draws = np.random.default_rng(0)
    sizes = (len(PARTS), len(MATERIALS), len(SURFACES))
    labels = np.stack([draws.integers(size, size=count) for size in sizes], axis=1).astype(np.int16)
    masks = np.zeros((count, size_px, size_px), bool)
    for mask, (part, _, _) in zip(masks, labels, strict=True):
        y, x = divmod(int(part), 4)
        mask[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8] = True
    ground = (40 * labels[:, 2])[:, None, None, None]
    colour = np.stack([40 * labels[:, 1], 250 - 40 * labels[:, 1], 0 * labels[:, 1]], axis=1)[:, None, None, :]
    return np.where(masks[..., None], colour, ground).astype(np.uint8), masks, labels
