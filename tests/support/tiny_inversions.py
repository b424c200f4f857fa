"""Inversions of a small teacher that take about a second."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailforge.schemas.settings.inversion import InversionSettings
from tailforge.tasks.methods.natural_inversion.contract import Inverted
from tailforge.tasks.methods.natural_inversion.invert import invert
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tests.support.tiny_teachers import TinyTeacher, tiny_teacher

LABELS = [0, 1, 2, 3, 4, 5]
SEEDS = [11, 12, 13, 14, 15, 16]
FAST: dict[str, Any] = {"steps": 6, "batch_size": 6, "latent_size": 8, "score_every": 2, "stop_improvement": None}
# Smooth in its inputs: rounding to 8 bits and what was seen a step ago turn small differences into large ones.
PLAIN: dict[str, Any] = {**FAST, "saved_pixels": False, "stale_features": False}


def small(classes: int = 10) -> TinyTeacher:
    return tiny_teacher(classes, side=8)


def run(
    teacher: TinyTeacher, labels: Sequence[int] = LABELS, seeds: Sequence[int] = SEEDS, **changes: Any
) -> list[Inverted]:
    return list(invert(teacher, labels, seeds, InversionSettings(**(FAST | changes))))


def pixels_of(images: Sequence[Inverted]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.stack([image.pixels for image in images if image.pixels is not None])


def logits_of(images: Sequence[Inverted]) -> Tensor:
    return torch.from_numpy(np.stack([image.logits for image in images if image.logits is not None]))


def scale_of(teacher: TinyTeacher) -> PixelScale:
    return PixelScale(teacher.mean, teacher.std, torch.device("cpu"))
