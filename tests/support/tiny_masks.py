"""Real images with masks of three tiny shapes, and a version of one: the smallest world to evaluate segmentation in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailforge.catalog.store import Store
from tests.support.fabricate import encode_png, make_build, make_recipe, publish_build

SIDE = 32
NAMES = ("bar", "stripe", "dot")  # values 1 to 3 of masks; dot is rare
COUNTS: Mapping[str, tuple[int, int]] = {"train": (16, 0), "validation": (6, 4), "test": (6, 5)}  # images, with a dot
FEW_STEPS = {
    "task": "segmentation", "steps": 30, "batch": 8, "checks": 2, "seeds": 2, "shares": (0.5,), "augmentations": 1,
    "few": 4, "many": 14, "learning_rate": 0.01,
}  # fmt: skip

Pixels = NDArray[np.uint8]


def draw_scene(number: int, dot: bool, place: tuple[int, int] | None = None) -> tuple[Pixels, Pixels]:
    """Return a noisy grey image and its mask, [SIDE, SIDE] each: a bar or a stripe, and a dark dot of 4 x 6 pixels.

    `place`: top and left of the dot, by default random; with it the image shows nothing else.
    """
    draws = np.random.default_rng((number, dot))
    image, mask = draws.normal(120, 12, (SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)
    at = int(draws.integers(12, SIDE - 4))
    if place is None and number % 2:
        image[:, at : at + 3], mask[:, at : at + 3] = image[:, at : at + 3] + 90, 1
    elif place is None:
        image[at : at + 3], mask[at : at + 3] = image[at : at + 3] + 90, 2
    if dot:
        top, left = place or draws.integers(1, 8, 2).tolist()
        image[top : top + 4, left : left + 6] -= 90
        mask[top : top + 4, left : left + 6] = 3
    return image.clip(0, 255).astype(np.uint8), mask


def write_real(file: Path, counts: Mapping[str, tuple[int, int]] = COUNTS) -> Path:
    """Write a Parquet file with columns image, mask and split; return it."""
    rows: list[dict[str, Any]] = []
    for start, (split, (count, dots)) in enumerate(counts.items()):
        for number in range(count):
            image, mask = draw_scene(100 * start + number, number < dots)
            rows.append({"image": encode_png(image), "mask": encode_png(mask), "split": split})
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def publish_dots(store: Store, name: str = "dots", concept: str = "dot") -> None:
    """Publish a version of 30 images of a dot, whose masks show it at the place that all made-up masks have."""

    def paint(shape: str, number: int) -> Pixels:
        image, _ = draw_scene(5000 + number, True, (2, 3))
        return np.repeat(image[..., None], 3, axis=2)

    build = make_build(store, make_recipe(name=name, concepts=(concept,)), {concept: 30}, pixels=SIDE, paint=paint)
    publish_build(build, {"report/index.html": b"<html>"})
