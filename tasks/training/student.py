"""Make a student from a teacher and labelled images: train and measure it, write its folder and its report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.training.classifiers import DistillSettings
from tailforge.schemas.under_way import Watch
from tailforge.tasks.artifacts.contract import digest, library_versions
from tailforge.tasks.methods.classifiers import distillation
from tailforge.tasks.methods.classifiers import train as train_classifier
from tailforge.tasks.methods.classifiers.distillation import teacher_loss
from tailforge.tasks.methods.classifiers.measure import (
    measure_accuracy,
    measure_classes,
    summarise_losses,
    worst_confusions,
)
from tailforge.tasks.methods.classifiers.networks import build_student
from tailforge.tasks.methods.classifiers.pictures import Classes, Pictures
from tailforge.tasks.methods.classifiers.train import Classifier, predict, train_on_views
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.training_loop import Observe, Saved
from tailforge.tasks.models.classifier_files import save_classifier
from tailforge.tasks.models.pretrained import pick_device
from tailforge.tasks.models.teacher import Teacher
from tailforge.tasks.report.distillation import draw_distillation
from tailforge.tasks.report.template_files import read_template
from tailforge.tasks.training.runs import find_report, finish_report, run_in_folder

PAGE = "report.html"
FORMAT = "tailforge-distillation/1"
CHECKPOINT_EVERY_S = 20.0


@dataclass(frozen=True)
class Origins:
    """Names of the teacher and the images in the report."""

    teacher: str
    training: str
    test: str


def distill(
    teacher: Teacher,
    training: Pictures,
    test: Pictures,
    settings: DistillSettings,
    origins: Origins,
    folder: Path,
    watch: Watch = lambda step, loss: None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> dict[str, Any]:
    """Train the student in `folder` and measure it; return the report, which is in the folder's report.json.

    A killed run resumes at its last checkpoint and ends in the same bits (on a CPU, with as many threads). A finished
    one is not repeated. Errors: UserError for a folder that holds something else, TrainingError.
    """
    key = _key(teacher, training, settings)
    test_key = digest([key, test.digest])
    if finished := find_report(folder, test_key):
        return finished

    # The student sees images as the teacher does.
    device = pick_device()
    student = build_student(settings.student, teacher.class_names, teacher.channels, teacher.size, settings.seed)
    student.module.to(device)
    scale = PixelScale(teacher.mean, teacher.std, device)
    loss_of = teacher_loss(teacher.logits, settings)

    def train(saved: Saved, observe: Observe) -> NDArray[np.float32]:
        return train_on_views(student, training, scale, settings, loss_of, saved, observe)

    losses, seconds = run_in_folder(folder, key, checkpoint_every_s, settings.steps, train, watch)

    # Measure both on the test images.
    found, wanted = (predict(each.logits, test.images, scale) for each in (student, teacher))
    report = {
        "format": FORMAT,
        "key": test_key,
        **_describe(teacher, training, test, student, settings, origins),
        **_measure(found, wanted, test.labels, teacher.class_names),
        "losses": summarise_losses(losses),
        "minutes": round(seconds / 60, 2),
        "versions": library_versions(),
    }

    # Write the model and the page, and the report last.
    save_classifier(folder, student, teacher.preparation, teacher.class_names)
    template = read_template("distillation.html.j2")
    (folder / PAGE).write_text(draw_distillation(report, template), encoding="utf-8")
    finish_report(folder, report)
    return report


def _key(teacher: Teacher, training: Pictures, settings: DistillSettings) -> str:
    """Return the digest of everything that decides the student's weights."""
    return digest(
        {
            "versions": [train_classifier.VERSION, distillation.VERSION],
            "settings": settings.model_dump(mode="json"),
            "teacher": [teacher.digest, list(teacher.mean), list(teacher.std), list(teacher.size)],
            "names": list(teacher.class_names),
            "training": training.digest,
        }
    )


def _describe(
    teacher: Teacher,
    training: Pictures,
    test: Pictures,
    student: Classifier,
    settings: DistillSettings,
    origins: Origins,
) -> dict[str, Any]:
    """Return what the report says of student, teacher, images and settings."""
    # Images per class, and the share that guessing the most frequent class gets right.
    names = teacher.class_names
    counts, tested = (np.bincount(each.labels, minlength=len(names)) for each in (training, test))
    return {
        "student": {
            "preset": settings.student,
            "parameters": sum(value.numel() for value in student.module.parameters()),
            "enlarge": student.enlarge,
        },
        "teacher": {
            "model": origins.teacher,
            "digest": teacher.digest,
            "parameters": sum(value.numel() for value in teacher.module.parameters()),
            "size": list(teacher.size),
            "channels": teacher.channels,
            "classes": list(teacher.class_names),
        },
        "training": {
            "origin": origins.training,
            "images": len(training),
            "by_class": dict(zip(names, counts.tolist(), strict=True)),
        },
        "test": {
            "origin": origins.test,
            "images": len(test),
            "classes": int((tested > 0).sum()),
        },
        "chance": {"guess": 1 / len(names), "most_frequent": int(tested.max()) / len(test)},
        "kd_steps": settings.steps,
        "settings": settings.model_dump(mode="json"),
    }


def _measure(student: Classes, teacher: Classes, labels: Classes, names: Sequence[str]) -> dict[str, Any]:
    """Return the figures of the test images. `student` and `teacher`: the classes that each finds in them, [N]."""
    return {
        "student_accuracy": measure_accuracy(student, labels),
        "teacher_accuracy": measure_accuracy(teacher, labels),
        "agreement": measure_accuracy(student, teacher),
        "per_class": measure_classes(student, labels, names),
        "teacher_per_class": measure_classes(teacher, labels, names),
        "confusions": worst_confusions(student, labels, names),
    }
