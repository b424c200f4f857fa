"""What the benchmark of training learns from: a source without two parts, and small sets of renders of these two."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailforge.catalog.sources.models import resolve_model
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.training.generator import GeneratorTraining
from tailforge.tasks.images.captioned import open_captioned
from tailforge.tasks.methods.embedded.captions import draw_captions
from tailforge.tasks.methods.embedded.diffusion import WORDING
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.methods.workshop import MATERIALS, PARTS
from tailforge.tasks.training.export_generator import export_generator
from tailforge.tasks.training.generator import fit_generator
from tailforge.tasks.training.generator_stages import Work, encode_images
from tailforge.tasks.training.pools import Pool, open_pool, render_pool

NEW = ("spring", "pulley")  # the source has never seen them, nor their names; the text encoder has
SIZE = 64
SOURCE_SEED, CAPTION_SEED, TRAINING_SEED = 61, 62, 63
SOURCE_IMAGES = 1500  # of each other part
SOURCE: dict[str, Any] = {
    "steps": 1250,
    "batch": 32,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warm_up": 0.03,
    "ema_decay": 0.995,
    "weighting": "min_snr_plus_one",
    "seed": TRAINING_SEED,
    "threads": 1,
}
REAL_SEED = 9393  # of no training; also of what the judges never saw
REAL = 600  # renders of the new parts that generated images are compared with


def write_captioned(file: Path, pool: Pool, seed: int) -> None:
    """A Parquet file of the pool's images with captions, as `tailforge train --images` reads it."""
    texts, _ = draw_captions(pool.labels, WORDING, np.random.default_rng(seed), {})
    table = pa.table({"image": [encode_png(image) for image in pool.images], "caption": list(texts)})
    beside = file.with_suffix(".tmp")
    pq.write_table(table, beside)
    beside.replace(file)


def open_set(work: Path, name: str, counts: dict[str, int], seed: int) -> tuple[Path, Pool]:
    """A captioned file of so many renders of each part, made where it is missing, and its pool."""
    folder = work / "sets" / name
    render_pool(folder, counts, seed, SIZE, 2)
    pool = open_pool(folder)
    file = folder / "captioned.parquet"
    if not file.exists():
        write_captioned(file, pool, seed + 1)
    return file, pool


def new_parts(count: int) -> dict[str, int]:
    """`count` images of the new parts, alike."""
    return dict.fromkeys(NEW, count // len(NEW))


def materials(pool: Pool) -> NDArray[np.int64]:
    """A class for each new part and material: [N]."""
    numbers = {PARTS.index(part): place for place, part in enumerate(NEW)}
    parts = np.array([numbers[int(part)] for part in pool.labels[:, 0]], np.int64)
    return parts * len(MATERIALS) + pool.labels[:, 1].astype(np.int64)


def train(work: Path, name: str, base: ModelSource, images: Path, **settings: Any) -> tuple[Path, dict[str, Any]]:
    """Train by the product's own stages, unless it was done; the model's folder and what was measured."""
    data = {
        "kind": "generator",
        "name": name,
        "base": base,
        "images": {"folder": str(images)},
        "validation": {"images": 0, "held_out": 0, "every": 1_000_000},
        **settings,
    }
    recipe = GeneratorTraining.model_validate(data)
    model = resolve_model(base, work, "base")
    opened = open_captioned(recipe.images, work, recipe.learning.seed)
    learnt = opened.describe()
    job = Work(work / "runs" / name, recipe, model, learnt.digest)
    encode_images(job, opened)
    measures = fit_generator(job, lambda step, loss: None)
    export_generator(job, work / "models", learnt, measures)
    return work / "models" / name, measures


def open_source(work: Path) -> ModelSource:
    """The generator that has never seen the new parts, trained where it is missing (40 minutes of one core)."""
    folder = work / "models" / "source"
    if not (folder / "model_index.json").exists():
        known = {part: SOURCE_IMAGES for part in PARTS if part not in NEW}
        file, _ = open_set(work, "source", known, SOURCE_SEED)
        train(work, "source", ModelSource(model="catalog:workshop"), file, start="scratch", learning=SOURCE)
    return ModelSource(model=str(folder))


def resolve(folder: Path) -> ResolvedModel:
    """A trained model as the chain names it."""
    return resolve_model(ModelSource(model=str(folder)), folder, "generator")


def prompts_of(count: int, surfaces: Sequence[str]) -> list[tuple[str, int]]:
    """`count` prompts for the new parts, with materials and surfaces in turn, and the class of each."""
    made = []
    for number in range(count):
        part, turn = number % len(NEW), number // len(NEW)
        material, surface = turn % len(MATERIALS), (turn + turn // len(MATERIALS)) % len(surfaces)
        text = f"a photo of a {MATERIALS[material]} {NEW[part]} on a {surfaces[surface]}"
        made.append((text, part * len(MATERIALS) + material))
    return made
