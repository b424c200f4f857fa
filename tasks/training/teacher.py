"""Make a teacher from labelled images: open or render them, train, measure, write the folder with its model card."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailforge.catalog.images.left_out import LeftOut
from tailforge.catalog.store import expand_home
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.training.classifiers import LabelledPictures, TeacherRecipe, WorkshopPictures
from tailforge.schemas.under_way import Watch
from tailforge.tasks.artifacts.contract import digest, library_versions
from tailforge.tasks.images.captioned import find_root
from tailforge.tasks.images.labelled import decode_images, open_labelled
from tailforge.tasks.methods.classifiers import train as train_classifier
from tailforge.tasks.methods.classifiers.measure import measure_accuracy, measure_classes, worst_confusions
from tailforge.tasks.methods.classifiers.networks import build_teacher
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.classifiers.train import label_loss, predict, train_on_views
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.training_loop import Observe, Saved
from tailforge.tasks.methods.workshop import PARTS
from tailforge.tasks.models.classifier_files import CIFAR_RESNET, save_classifier
from tailforge.tasks.models.preparation import Preparation
from tailforge.tasks.models.pretrained import pick_device
from tailforge.tasks.training.pools import open_pool, render_pool
from tailforge.tasks.training.runs import find_report, finish_report, run_in_folder

DIGITS = 4  # of mean and standard deviation


@dataclass(frozen=True)
class TeacherPictures:
    """Images that a teacher learns from, and those that it is measured on. `origin`: their name in the model card.

    `left_out`: what the source of the images holds besides.
    """

    training: Pictures
    test: Pictures
    names: tuple[str, ...]
    origin: str
    left_out: LeftOut = field(default_factory=LeftOut)


def open_pictures(recipe: TeacherRecipe, folder: Path, work: Path, images: Path | None) -> TeacherPictures:
    """Return the recipe's pictures. `folder`: of the recipe. `images` replaces the path that the recipe names.

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
    """Train in `work`/NAME and write `models`/NAME; return the model's folder, accuracy, parameters and minutes.

    A killed run resumes at its last checkpoint and ends in the same bits. A finished one is not repeated.
    Errors: UserError for a folder that holds something else, TrainingError.
    """
    # Train unless the report says that it is done, then copy the model.
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
    """Train, measure and write the model in `run`; return the report, which is written last."""
    device = pick_device()
    preparation = measure_preparation(pictures.training, recipe.size_px)
    scale = PixelScale(preparation.mean, preparation.std, device)
    teacher = build_teacher(recipe.model, pictures.names, recipe.channels, recipe.training.seed)
    teacher.module.to(device)

    def train(saved: Saved, observe: Observe) -> NDArray[np.float32]:
        return train_on_views(teacher, pictures.training, scale, recipe.training, label_loss, saved, observe)

    _, seconds = run_in_folder(run, key, recipe.checkpoint_every_s, recipe.training.steps, train, watch)
    found, labels = predict(teacher.logits, pictures.test.images, scale), pictures.test.labels

    # Measure on the test images.
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

    # Write the model, its card and the report.
    arguments = {
        "widths": recipe.model.widths,
        "depths": recipe.model.depths,
        "classes": len(pictures.names),
        "channels": recipe.channels,
    }
    save_classifier(run / "model", teacher, preparation, pictures.names, arguments)
    _write_card(run / "model" / "README.md", recipe, report)
    finish_report(run, report)
    return report


def measure_preparation(pictures: Pictures, size_px: int) -> Preparation:
    """Return the mean and standard deviation of each channel of the images, in 0..1."""
    values = [pictures.images[..., channel] for channel in range(pictures.images.shape[3])]
    mean = tuple(round(float(value.mean(dtype=np.float64)) / 255, DIGITS) for value in values)
    std = tuple(max(round(float(value.std(dtype=np.float64)) / 255, DIGITS), 10**-DIGITS) for value in values)
    return Preparation(mean, std, (size_px, size_px))


def _key(recipe: TeacherRecipe, pictures: TeacherPictures) -> str:
    """Return the digest of everything that decides the model's files."""
    decides = recipe.model_dump(mode="json", exclude={"checkpoint_every_s", "pictures", "notes"})
    digests = [pictures.training.digest, pictures.test.digest]
    return digest([train_classifier.VERSION, decides, digests, list(pictures.names), pictures.origin])


def _render_pictures(settings: WorkshopPictures, size_px: int, folder: Path) -> TeacherPictures:
    """Return renders of the workshop; the test images have a seed of their own."""
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
    """Return images of half the side: rounded means of 2 x 2 pixels of [N, H, W, C]."""
    total = np.full((len(images), images.shape[1] // 2, images.shape[2] // 2, images.shape[3]), 2, np.uint16)
    for row, column in np.ndindex(2, 2):
        total += images[:, row::2, column::2]
    return (total // 4).astype(np.uint8)


def _read_pictures(
    recipe: TeacherRecipe, settings: LabelledPictures, folder: Path, images: Path | None
) -> TeacherPictures:
    """Return the labelled images of a file or folder. Errors: ImagesError, NotFoundError."""
    if images is None and settings.path is None:
        raise ImagesError(
            f"{recipe.name} learns from labelled images; name them by --images, or as pictures.path in the "
            "recipe: a Parquet file with a column split, or a folder with train and test in it, each of one folder a "
            "class"
        )

    # Training and test images come from one path and must differ.
    path = images or folder / expand_home(settings.path or "")
    root = find_root(settings.root, path, folder, "pictures")
    training, test = (open_labelled(path, split, root=root) for split in ("train", "test"))
    if training.origin == test.origin:
        raise ImagesError(
            f"{path} does not tell training from test images; give a Parquet file with a column split, or a folder "
            "with train and test in it, each of one folder a class"
        )

    # The training images decide the classes.
    names = sort_names(set(training.require_labels()))
    if len(names) < 2:
        raise ImagesError(f"{training.origin} has images of {len(names)} class; a classifier needs two or more")
    places = {name: place for place, name in enumerate(names)}

    def label_of(label: str) -> int:
        if label not in places:
            raise ImagesError(f"{test.origin} has class {label!r}, of which {training.origin} has no image")
        return places[label]

    # Decode all images at the classifier's size.
    size = (recipe.size_px, recipe.size_px)
    learnt, measured = (
        decode_images(each, label_of, size, recipe.channels, np.arange(len(each)), settings.fit)
        for each in (training, test)
    )
    return TeacherPictures(learnt, measured, names, path.name, training.left_out)


def sort_names(names: set[str]) -> tuple[str, ...]:
    """Return names in order: numbers by size, then other names by letter."""
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def _write_card(path: Path, recipe: TeacherRecipe, report: Mapping[str, Any]) -> None:
    """Write the model card of a trained teacher from its report."""
    # Rows of the table and the most frequent mistakes.
    accuracy, training = report["accuracy"], recipe.training
    classes = [
        f"| {row['class']} | {row['value']:.1%} | {row['low']:.1%} to {row['high']:.1%} | {row['images']} |"
        for row in report["per_class"]
    ]
    mistakes = [f"{row['class']} for {row['taken_for']} ({row['images']})" for row in report["confusions"][:4]]

    # Front matter, description, data, figures.
    lines = [
        "---",
        *(["library_name: transformers"] if recipe.model.architecture != "cifar_resnet" else []),
        "pipeline_tag: image-classification",
        "tags: [tailforge, teacher]",
        "---",
        "",
        f"# {recipe.name}: a teacher of {report['classes']} classes, {recipe.size_px} x {recipe.size_px} pixels",
        "",
        f"A {recipe.model.architecture} with BatchNorm, {report['parameters']:,} parameters, widths "
        f"{list(recipe.model.widths)}, depths {list(recipe.model.depths)}. It classifies images of this size alone.",
        "",
        "```yaml",
        *_name_it(recipe),
        "```",
        "",
        "## Data and training",
        "",
        f"{count_of(report['training_images'], 'image')}: {report['origin']}. SGD with momentum and a cosine schedule,",
        f"{count_of(training.steps, 'step')} of {training.batch}, learning rate {training.learning_rate}, weight decay "
        f"{training.weight_decay}, random crops with {training.padding} reflected",
        f"pixels{', mirrored' if training.flip else ''}, cross entropy; seed {training.seed}, "
        f"{count_of(recipe.threads, 'thread')}, {report['minutes']} minutes.",
        *(f"\n{note}" for note in recipe.notes),
        "",
        "## Measured",
        "",
        f"Accuracy on {count_of(accuracy['images'], 'held-out image')}: {accuracy['value']:.2%} (95 % interval "
        f"{accuracy['low']:.2%} to {accuracy['high']:.2%}, Wilson).",
        f"Most frequent mistakes: {', '.join(mistakes) or 'none'}.",
        "The held-out images are of the same source as those of the training; the figures say nothing of others.",
        "",
        "| class | accuracy | 95 % interval | images |",
        "|---|---|---|---|",
        *classes,
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _name_it(recipe: TeacherRecipe) -> list[str]:
    """Return the lines by which a recipe names this teacher."""
    if recipe.model.architecture == "cifar_resnet":
        return [f"model: path/of/{recipe.name}", f"module: {CIFAR_RESNET}  # a torch module, not one of transformers"]
    return [f"model: path/of/{recipe.name}  # or catalog:{recipe.name}, where it lies in catalog/models"]
