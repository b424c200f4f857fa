"""Teacher, verifier and real images of the inversion benchmark; see inversion.py."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailforge.catalog.images.records import Images
from tailforge.catalog.sources.models import resolve_model
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.tasks.images.labelled import choose_rows, decode_images, label_rows, open_labelled
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.models.classifier_files import CIFAR_RESNET
from tailforge.tasks.models.teacher import Teacher, load_teacher, load_verifier
from tailforge.tasks.training.teacher import open_pictures, train_teacher
from tests.benchmarks.inversion.sets import ImageSet

FEATURES_AT_ONCE = 256

Features = NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """What all arms of a set share. The verifier has no part in making an image or teaching a student."""

    images: ImageSet
    teacher: Teacher
    verifier: Teacher
    test: Pictures
    training: Images

    @cached_property
    def scale(self) -> PixelScale:
        """The teacher's; the verifier's is the same, from the same training images."""
        return PixelScale(self.teacher.mean, self.teacher.std, torch.device("cpu"))


def open_bench(images: ImageSet, file: Path, work: Path) -> Bench:
    """Load teacher and verifier, training in `work` what is not finished there. `file`: the set's Parquet file."""
    models = work / "models"
    for recipe in (images.teacher, images.verifier):
        if not (models / recipe.name / "config.json").is_file():
            train_teacher(recipe, open_pictures(recipe, file.parent, work, file), work / "training", models)
    teacher = load_teacher(*_find(models / images.teacher.name, CIFAR_RESNET))
    test = open_labelled(file, "test")
    return Bench(
        images,
        teacher,
        load_verifier(*_find(models / images.verifier.name, None), None, "verifier"),
        decode_images(test, teacher.label, teacher.size, teacher.channels, np.arange(len(test))),
        open_labelled(file, "train"),
    )


def _find(folder: Path, module: str | None) -> tuple[ResolvedModel, TeacherSource]:
    source = TeacherSource(model=str(folder.resolve()), module=module)
    return resolve_model(source, folder, "model"), source


def real_images(bench: Bench, count: int, seed: int) -> Pictures:
    """As many of each class, by lot, of the images that the teacher learnt from."""
    teacher = bench.teacher
    rows = choose_rows(label_rows(bench.training, teacher.label), count, seed)
    return decode_images(bench.training, teacher.label, teacher.size, teacher.channels, rows)


def features_of(bench: Bench, images: NDArray[np.uint8]) -> Features:
    """What the verifier's last linear layer reads: [N, D]."""
    last = [part for part in bench.verifier.module.modules() if isinstance(part, nn.Linear)][-1]
    kept: list[torch.Tensor] = []
    handle = last.register_forward_pre_hook(lambda _module, inputs: kept.append(inputs[0]))
    try:
        with torch.no_grad():
            for first in range(0, len(images), FEATURES_AT_ONCE):
                bench.verifier.logits(bench.scale.from_pixels(images[first : first + FEATURES_AT_ONCE]))
    finally:
        handle.remove()
    return torch.cat(kept).double().numpy()
