"""A teacher from labelled images: opened or rendered, trained, measured, written with its model card."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailforge.catalog.images.left_out import LeftOut
from tailforge.catalog.store import expand_home
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.training.classifiers import LabelledPictures, TeacherRecipe, WorkshopPictures
from tailforge.tasks.artifacts.contract import digest, library_versions
from tailforge.tasks.images.labelled import decode_images, open_labelled
from tailforge.tasks.methods.classifiers import train as train_classifier
from tailforge.tasks.methods.classifiers.measure import measure_accuracy, measure_classes, worst_confusions
from tailforge.tasks.methods.classifiers.networks import build_teacher
from tailforge.tasks.methods.classifiers.train import Pictures, label_loss, predict, train_on_views
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.training_loop import Observe, Saved
from tailforge.tasks.methods.workshop import PARTS
from tailforge.tasks.models.classifier_files import save_classifier
from tailforge.tasks.models.preparation import Preparation
from tailforge.tasks.models.pretrained import pick_device
from tailforge.tasks.training.pools import open_pool, render_pool
from tailforge.tasks.training.runs import Watch, find_report, finish_report, run_in_folder
from tailforge.tasks.training.teacher_card import write_teacher_card

DIGITS = 4  # of mean and standard deviation


@dataclass(frozen=True)
class TeacherPictures:
    """What a teacher learns from and is measured on; `origin` is what the model card calls it.

    `left_out`: what the source of the images holds besides.
    """

    training: Pictures
    test: Pictures
    names: tuple[str, ...]
    origin: str
    left_out: LeftOut = field(default_factory=LeftOut)


def open_pictures(recipe: TeacherRecipe, folder: Path, work: Path, images: Path | None) -> TeacherPictures:
    """The recipe's pictures. `folder`: of the recipe; `images` is read in place of the path that the recipe names.

    Errors: NotFoundError; ImagesError for images that cannot be used.
    """
    if isinstance(recipe.pictures, WorkshopPictures):
        if images is not None:
            raise ImagesError(f"--images: {recipe.name} learns from renders of the workshop; leave it out")
        return _render_pictures(recipe.pictures, recipe.size_px, work / f"{recipe.name}-pools")
    return _read_pictures(recipe, recipe.pictures, folder, images)


def train_teacher(
    recipe: TeacherRecipe,
    pictures: TeacherPictures,
    work: Path,
    models: Path,
    watch: Watch = lambda step, loss: None,
) -> dict[str, Any]:
    """Train in `work`/NAME, write `models`/NAME; returns the model's folder, accuracy, parameters and minutes.

    A killed run goes on from its last checkpoint and ends in the same bits; a finished one is not done again.
    Errors: UserError for a folder that holds something else, TrainingError.
    """
    torch.set_num_threads(recipe.threads)
    run = work / recipe.name
    key = _key(recipe, pictures)
    report = find_report(run, key) or _train(recipe, pictures, run, key, watch)
    shutil.copytree(run / "model", models / recipe.name, dirs_exist_ok=True)
    return {
        "model": str(models / recipe.name),
        "accuracy": report["accuracy"],
        "parameters": report["parameters"],
        "minutes": report["minutes"],
    }


def _train(recipe: TeacherRecipe, pictures: TeacherPictures, run: Path, key: str, watch: Watch) -> dict[str, Any]:
    device = pick_device()
    preparation = measure_preparation(pictures.training, recipe.size_px)
    scale = PixelScale(preparation.mean, preparation.std, device)
    teacher = build_teacher(recipe.model, pictures.names, recipe.channels, recipe.training.seed)
    teacher.module.to(device)

    def train(saved: Saved, observe: Observe) -> NDArray[np.float32]:
        return train_on_views(teacher, pictures.training, scale, recipe.training, label_loss, saved, observe)

    _, seconds = run_in_folder(run, key, recipe.checkpoint_every_s, recipe.training.steps, train, watch)
    found, labels = predict(teacher.logits, pictures.test.images, scale), pictures.test.labels
    report = {
        "key": key,
        "recipe": recipe.model_dump(mode="json"),
        "origin": pictures.origin,
        "classes": len(pictures.names),
        "training_images": len(pictures.training),
        "parameters": sum(value.numel() for value in teacher.module.parameters()),
        "accuracy": measure_accuracy(found, labels),
        "per_class": measure_classes(found, labels, pictures.names),
        "confusions": worst_confusions(found, labels, pictures.names),
        "minutes": round(seconds / 60, 2),
        "versions": library_versions(),
    }
    arguments = {
        "widths": recipe.model.widths,
        "depths": recipe.model.depths,
        "classes": len(pictures.names),
        "channels": recipe.channels,
    }
    save_classifier(run / "model", teacher, preparation, pictures.names, arguments)
    write_teacher_card(run / "model" / "README.md", recipe, report)
    finish_report(run, report)
    return report


def measure_preparation(pictures: Pictures, size_px: int) -> Preparation:
    """Mean and standard deviation of each channel of the images, in 0..1."""
    values = [pictures.images[..., channel] for channel in range(pictures.images.shape[3])]
    mean = tuple(round(float(value.mean(dtype=np.float64)) / 255, DIGITS) for value in values)
    std = tuple(max(round(float(value.std(dtype=np.float64)) / 255, DIGITS), 10**-DIGITS) for value in values)
    return Preparation(mean, std, (size_px, size_px))


def _key(recipe: TeacherRecipe, pictures: TeacherPictures) -> str:
    """Everything that decides the model's files."""
    decides = recipe.model_dump(mode="json", exclude={"checkpoint_every_s", "pictures", "notes"})
    digests = [pictures.training.digest, pictures.test.digest]
    return digest([train_classifier.VERSION, decides, digests, list(pictures.names), pictures.origin])


def _render_pictures(settings: WorkshopPictures, size_px: int, folder: Path) -> TeacherPictures:
    made = []
    for name, count, seed in (
        ("training", settings.train_per_part, settings.seed),
        ("test", settings.test_per_part, settings.seed + 1),
    ):
        render_pool(folder / name, dict.fromkeys(PARTS, count), seed, 2 * size_px, settings.workers)
        pool = open_pool(folder / name)
        made.append(Pictures(halve(pool.images), pool.labels[:, 0].astype(np.int64)))
    origin = f"renders of the workshop at {2 * size_px} x {2 * size_px} pixels, averaged down to half"
    return TeacherPictures(made[0], made[1], PARTS, origin)


def halve(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rounded means of 2 x 2 pixels of [N, H, W, C]."""
    total = np.full((len(images), images.shape[1] // 2, images.shape[2] // 2, images.shape[3]), 2, np.uint16)
    for row, column in np.ndindex(2, 2):
        total += images[:, row::2, column::2]
    return (total // 4).astype(np.uint8)


def _read_pictures(
    recipe: TeacherRecipe, settings: LabelledPictures, folder: Path, images: Path | None
) -> TeacherPictures:
    if images is None and settings.path is None:
        raise ImagesError(
            f"{recipe.name} learns from labelled images; name them by --images, or as pictures.path in the "
            "recipe: a Parquet file with a column split, or a folder with train and test in it, each of one folder a "
            "class"
        )
    path = images or folder / expand_home(settings.path or "")
    training, test = open_labelled(path, "train"), open_labelled(path, "test")
    if training.origin == test.origin:
        raise ImagesError(
            f"{path} does not tell training from test images; give a Parquet file with a column split, or a folder "
            "with train and test in it, each of one folder a class"
        )
    names = sort_names(set(training.require_labels()))
    if len(names) < 2:
        raise ImagesError(f"{training.origin} has images of {len(names)} class; a classifier needs two or more")
    places = {name: place for place, name in enumerate(names)}

    def label_of(label: str) -> int:
        if label not in places:
            raise ImagesError(f"{test.origin} has class {label!r}, of which {training.origin} has no image")
        return places[label]

    size = (recipe.size_px, recipe.size_px)
    learnt, measured = (
        decode_images(each, label_of, size, recipe.channels, np.arange(len(each)), settings.fit)
        for each in (training, test)
    )
    return TeacherPictures(learnt, measured, names, path.name, training.left_out)


def sort_names(names: set[str]) -> tuple[str, ...]:
    """Numbers by size, then other names by letter."""
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))
