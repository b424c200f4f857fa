"""The model card of a trained teacher: what it is, its data, training, measured accuracy and how it is named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.training.classifiers import TeacherRecipe
from tailforge.tasks.models.classifier_files import CIFAR_RESNET


def write_teacher_card(path: Path, recipe: TeacherRecipe, report: Mapping[str, Any]) -> None:
    """Write README.md of the model's folder from the report of tasks/training/teacher.py."""
    accuracy, training = report["accuracy"], recipe.training
    classes = [
        f"| {row['class']} | {row['value']:.1%} | {row['low']:.1%} to {row['high']:.1%} | {row['images']} |"
        for row in report["per_class"]
    ]
    mistakes = [f"{row['class']} for {row['taken_for']} ({row['images']})" for row in report["confusions"][:4]]
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
    """How a recipe names this teacher."""
    if recipe.model.architecture == "cifar_resnet":
        return [f"model: path/of/{recipe.name}", f"module: {CIFAR_RESNET}  # a torch module, not one of transformers"]
    return [f"model: path/of/{recipe.name}  # or catalog:{recipe.name}, where it lies in catalog/models"]
