"""Toy labelled pictures that a network learns to tell apart in seconds, and a teacher that has."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.schemas.training.classifiers import ClassifierTraining, TeacherModel
from tailforge.tasks.methods.classifiers.networks import build_teacher
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.classifiers.train import label_loss, train_on_views
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.models.classifier_files import save_classifier
from tailforge.tasks.models.preparation import Preparation
from tailforge.tasks.models.teacher import Teacher, load_teacher

NAMES = ("gear", "hook", "ring")
SIDE = 16
PREPARATION = Preparation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (SIDE, SIDE))
SCALE = PixelScale(PREPARATION.mean, PREPARATION.std, torch.device("cpu"))


def toy_pictures(count: int, seed: int, channels: int = 3) -> Pictures:
    """Rows, columns or squares of a chessboard, all two pixels wide, in noise; classes in turn."""
    draws = np.random.default_rng(seed)
    images = draws.integers(0, 100, (count, SIDE, SIDE, channels), np.uint8)
    labels = np.arange(count) % len(NAMES)
    rows, columns = np.indices((SIDE, SIDE)) // 2 % 2 == 1
    for image, label in zip(images, labels, strict=True):
        image[(rows, columns, rows ^ columns)[label]] += 120
    return Pictures(images, labels.astype(np.int64))


def no_watch(learner: Any, loss: float) -> None:
    """Observes nothing."""


def save_toy_teacher(folder: Path, steps: int = 60, names: tuple[str, ...] = NAMES) -> Path:
    """A small transformers classifier that knows the toy pictures."""
    model = TeacherModel(architecture="resnet", widths=(16, 16), depths=(1, 1))
    teacher = build_teacher(model, names, 3, seed=0)
    settings = ClassifierTraining(steps=steps, batch=32, learning_rate=0.05, padding=1)
    train_on_views(teacher, toy_pictures(300, seed=1), SCALE, settings, label_loss, None, no_watch)
    save_classifier(folder, teacher, PREPARATION, names)
    return folder


def load_folder(folder: Path, **source: Any) -> Teacher:
    return load_teacher(ResolvedModel(path=str(folder), digest=str(folder)), TeacherSource(model=str(folder), **source))


def encode(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG")
    return out.getvalue()


def write_parquet(
    file: Path, parts: dict[str, Pictures], names: tuple[str, ...] = NAMES, column: str = "label"
) -> Path:
    """Pictures by split, as the columns split, label and image."""
    rows = [
        {"split": split, column: names[label], "image": encode(image)}
        for split, pictures in parts.items()
        for image, label in zip(pictures.images, pictures.labels, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def write_folder(folder: Path, pictures: Pictures, names: tuple[str, ...] = NAMES) -> Path:
    """Pictures as one folder a class."""
    for row, (image, label) in enumerate(zip(pictures.images, pictures.labels, strict=True)):
        file = folder / names[label] / f"{row:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(image))
    return folder
