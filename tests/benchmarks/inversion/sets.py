"""The image sets of the inversion benchmark, and what each of them can pay for on a CPU; see inversion.py."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailforge.catalog.sources.recipes import load_training_recipe
from tailforge.schemas.training.classifiers import TeacherModel, TeacherRecipe
from tests.benchmarks.pages import ROOT

RECIPES = ROOT / "catalog" / "recipes"
VERIFIER_MODEL = TeacherModel(architecture="regnet", widths=(32, 64, 128), depths=(1, 1, 1))
VERIFIER_SEED = 7


@dataclass(frozen=True)
class ImageSet:
    """`count` images an arm and seed, from which a student learns `kd_steps`; `engine`: what this set asks of all."""

    name: str
    title: str
    teacher: TeacherRecipe
    verifier_steps: int
    count: int
    kd_steps: int
    note: str
    engine: dict[str, Any] = field(default_factory=dict)

    @property
    def variable(self) -> str:
        """Environment variable that names the set's Parquet file (columns split, label, image)."""
        return f"TAILFORGE_{self.name.upper()}"

    def find_file(self, named: Path | None) -> Path | None:
        """The Parquet file: the one that is named, else that of the environment; None if it is not there."""
        path = named or Path(os.environ.get(self.variable) or "-")
        return path if path.is_file() else None

    @property
    def verifier(self) -> TeacherRecipe:
        """The teacher's recipe, but with a network of another kind and another seed."""
        training = self.teacher.training.model_copy(update={"steps": self.verifier_steps, "seed": VERIFIER_SEED})
        changes = {"name": f"{self.name}-verifier", "model": VERIFIER_MODEL, "training": training}
        return self.teacher.model_copy(update=changes)


def _load(name: str) -> TeacherRecipe:
    recipe = load_training_recipe(RECIPES / f"{name}.yaml")
    assert isinstance(recipe, TeacherRecipe)
    return recipe


def _reduced_cifar10_teacher() -> TeacherRecipe:
    """The catalog's, for a CPU: fewer and narrower layers, a twentieth of the steps."""
    recipe = _load("teacher-cifar10")
    training = recipe.training.model_copy(update={"steps": 2000, "bf16": False})
    model = TeacherModel(architecture="cifar_resnet", widths=(32, 64, 128), depths=(1, 1, 1))
    return recipe.model_copy(update={"model": model, "training": training, "threads": 1})


MNIST = ImageSet(
    name="mnist",
    title="MNIST",
    teacher=_load("teacher-mnist"),
    verifier_steps=400,
    count=128,
    kd_steps=300,
    note="The teacher is that of `tailforge train teacher-mnist`. A mirrored digit is none: `published` without "
    "mirror images.",
    engine={"flip": False},
)
CIFAR10 = ImageSet(
    name="cifar10",
    title="CIFAR-10 at reduced size",
    teacher=_reduced_cifar10_teacher(),
    verifier_steps=1000,
    count=256,
    kd_steps=500,
    note="No accelerator was at hand: the teacher is the catalog's `teacher-cifar10` with three stages of one block, "
    "32, 64 and 128 channels wide, and 2000 steps, not a ResNet-34. Its images are a lossy JPEG copy of CIFAR-10 "
    "(quality about 75), training and test alike. Nothing here can be held against published figures.",
    engine={"flip": True},
)
SETS = {each.name: each for each in (MNIST, CIFAR10)}
