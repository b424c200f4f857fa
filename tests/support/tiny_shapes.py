"""Real images of three tiny classes, and versions of them: the smallest world in which an evaluation has an answer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.store import Store
from tests.support.fabricate import make_build, make_recipe, publish_build

SIDE = 16
SHAPES = ("bar", "dot", "stripe")  # dot is rare
COUNTS: Mapping[str, Mapping[str, int]] = {
    "train": {"bar": 24, "stripe": 24},
    "validation": dict.fromkeys(SHAPES, 8),
    "test": dict.fromkeys(SHAPES, 10),
}
FEW_STEPS = {
    "steps": 24, "batch": 24, "checks": 2, "seeds": 2, "shares": (0.5, 1.0), "augmentations": 1, "few": 4, "many": 20,
    "learning_rate": 0.05,
}  # fmt: skip


def draw_shape(shape: str, number: int) -> NDArray[np.uint8]:
    """Return a noisy RGB image [SIDE, SIDE, 3] of a shape at a random place; equal numbers give equal images."""
    draws = np.random.default_rng((SHAPES.index(shape), number))
    image = draws.normal(60, 18, (SIDE, SIDE))
    at, beside = draws.integers(2, SIDE - 5, 2)
    if shape == "bar":
        image[:, at : at + 3] += 130
    elif shape == "stripe":
        image[at : at + 3] += 130
    else:
        image[at : at + 4, beside : beside + 4] += 130
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def draw_noise(shape: str, number: int) -> NDArray[np.uint8]:
    """Return an RGB image of noise, whatever the shape."""
    return np.random.default_rng((number, 99)).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def write_real(folder: Path, counts: Mapping[str, Mapping[str, int]] = COUNTS) -> Path:
    """Write folders train, validation and test with grey PNG files per class; return the folder."""
    for place, (split, wanted) in enumerate(counts.items()):
        for shape, count in wanted.items():
            own = folder / split / shape
            own.mkdir(parents=True)
            for number in range(count):
                pixels = draw_shape(shape, 1000 * place + number)[..., 0]
                Image.fromarray(pixels).save(own / f"{number:03}.png")
    return folder


def publish_shapes(store: Store, name: str = "shapes", paint: Any = None, shapes: tuple[str, ...] = ("dot",)) -> None:
    """Publish a version of 40 images per shape, drawn by `paint`, by default as the real ones with other numbers."""

    def draw(shape: str, number: int) -> NDArray[np.uint8]:
        return draw_shape(shape, 50_000 + number)

    recipe = make_recipe(name=name, concepts=shapes)
    build = make_build(store, recipe, dict.fromkeys(shapes, 40), pixels=SIDE, paint=paint or draw)
    publish_build(build, {"report/index.html": b"<html>", "report/images/1.png": b"picture"})
