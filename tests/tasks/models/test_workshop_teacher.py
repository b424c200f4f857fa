"""The teacher in the catalog: small, loaded by name, and right about pictures it was not trained on."""

from pathlib import Path

import numpy as np
import torch

from tailforge.catalog.sources.models import MODELS, resolve_model
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.tasks.methods.classifiers.train import predict
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.natural_inversion.taps import examine
from tailforge.tasks.methods.workshop import PARTS, render, sample_scene
from tailforge.tasks.models.teacher import load_teacher
from tailforge.tasks.training.teacher import halve

MAX_BYTES = 5 * 2**20
UNSEEN_SEED = 987_654


def test_the_workshop_teacher_knows_the_parts() -> None:
    source = TeacherSource(model="catalog:workshop-teacher")
    teacher = load_teacher(resolve_model(source, Path.cwd(), "generator"), source)
    assert teacher.class_names == PARTS
    assert (teacher.size, teacher.channels) == ((32, 32), 3)
    assert {value.dtype for value in teacher.module.parameters()} == {torch.float32}
    assert [tap.size for tap in examine(teacher).taps] == [(16, 16), (8, 8), (4, 4)]
    labels = np.repeat(np.arange(len(PARTS)), 10)
    scenes = [sample_scene(row, UNSEEN_SEED, {PARTS[label]: 1.0}) for row, label in enumerate(labels)]
    images = halve(np.stack([render(scene, 64).image for scene in scenes]))
    found = predict(teacher.logits, images, PixelScale(teacher.mean, teacher.std, torch.device("cpu")))
    assert (found == labels).mean() >= 0.97


def test_the_workshop_teacher_is_small() -> None:
    assert sum(file.stat().st_size for file in (MODELS / "workshop-teacher").iterdir()) < MAX_BYTES
