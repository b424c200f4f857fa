"""Find the version, teacher and test images that the user names for a distilled student, and train it.

A training is one piece of work with its own checkpoint, so this module orchestrates nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tailforge.catalog.images.records import Images
from tailforge.catalog.images.versions import open_version_images
from tailforge.catalog.registry import load_dataset
from tailforge.catalog.sources.models import name_model, resolve_model
from tailforge.catalog.sources.recipes import recipe_home
from tailforge.catalog.store import Store
from tailforge.catalog.user_paths import usable_path
from tailforge.flows.build.choose import split_reference
from tailforge.flows.samples.published_recipe import refuse_code
from tailforge.flows.terminal.training_progress import say_left_out, show_training
from tailforge.schemas.checks.mistakes import describe_mistakes
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.foreign_json import describe_damage
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError, ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.options import Fit
from tailforge.schemas.settings.fields import look
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.schemas.training.classifiers import DistillSettings
from tailforge.tasks.images.labelled import (
    LabelOf,
    choose_rows,
    decode_pixels,
    label_rows,
    open_labelled,
    refuse_shared,
    take_split,
)
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.packing.transforms import load_transforms
from tailforge.tasks.models.kinds import CLASSIFIER, require_kind
from tailforge.tasks.models.teacher import Teacher, describe_classifier, load_verifier
from tailforge.tasks.training.student import Origins, distill

INVERSION = "natural_inversion"

OPTION = "--teacher"


def distill_student(
    dataset: str | None,
    store: str,
    test: str,
    out: Path,
    settings: Mapping[str, Any],
    teacher: TeacherSource | None = None,
    real: str | None = None,
    images: int | None = None,
    folder: Path | None = None,
    teacher_module: str | None = None,
    fit: Fit = "exact",
    root: Path | None = None,
) -> dict[str, Any]:
    """Distil a student into `out` and return its report, with `folder`.

    The training images are split train of `dataset` (dataset@version), or `real`: a Parquet file, a folder with one
    subfolder per class, or another version. `images` draws a random choice of so many, with equal numbers per class
    where possible. `test` is named like `real`. `settings`: fields of DistillSettings. `teacher`: by default the
    version's; `folder` is the folder of its recipe, by default `recipe_home`, and `teacher_module` its code. `fit`: how
    to fit images of another size than the teacher's. `root`: folder that paths in a table of images start from.
    Errors: UserError of every kind, TrainingError.
    """
    source = _choose_source(dataset, real)
    load_transforms("the training of a student")
    chosen = _parse(settings)
    out = usable_path(out, "--out")
    for option, named in (("--test", test), ("--real", real)):
        if named is not None:
            usable_path(named, option)

    training = (
        open_labelled(source, "train", store, root=root)
        if real
        else take_split(open_version_images(store, *split_reference(source)), "train")
    )
    measured = open_labelled(test, "test", store, training.origin, root)
    for each in (training, measured):
        say_left_out(each.origin, each.left_out)
    wanted = _find_teacher(dataset, store, teacher, folder, teacher_module)
    if training.origin == measured.origin:
        raise ImagesError(
            f"the test images are the training images, {training.origin}; accuracy on them has no meaning: name "
            "other images by --test"
        )

    origins = Origins(wanted.shown, _without_folders(training.origin, source), _without_folders(measured.origin, test))
    rows = choose_images(training, images, chosen.seed), np.arange(len(measured))
    pixels = _decode(wanted, (training, measured), rows, fit)  # first: a large teacher loads for a minute
    found = wanted.load()
    learnt, held_out = (
        Pictures(shown, label_rows(each, _label_of(found, each))[those])
        for each, shown, those in zip((training, measured), pixels, rows, strict=True)
    )
    refuse_shared(learnt, held_out, origins.training, origins.test)

    with show_training(f"distil {chosen.student}", chosen.steps) as watch:
        report = distill(found, learnt, held_out, chosen, origins, out, watch)
    return {"folder": str(out), **report}


def _choose_source(dataset: str | None, real: str | None) -> str:
    """Return the one source of training images that is given. Errors: ImagesError for none, or both."""
    source = real or dataset
    if source is None:
        raise ImagesError("no training images; name a version, or images of your own by --real")
    if real and dataset:
        raise ImagesError(
            f"both the version {dataset!r} and --real {real!r} are given; a student learns from one of them: leave "
            "the other out"
        )
    return source


def name_teacher(version: Dataset, module: str | None = None) -> TeacherSource | None:
    """Return the teacher of a version, its generator; None if its engine needs none.

    `module`: code of that teacher that the user named. Errors: ModelError for other code or an invalid source.
    """
    if version.recipe["engine"]["kind"] != INVERSION:
        return None
    found = version.recipe["generator"] or {}
    refuse_code(found, f"{version.name}@{version.version}", module)
    try:
        return TeacherSource.model_validate(found)
    except ValidationError as error:
        raise ModelError(
            f"generator of {version.name}@{version.version}: {describe_damage(error)}; name a teacher by --teacher"
        ) from error


def parse_teacher(model: str, module: str | None) -> TeacherSource:
    """Return the source for catalog:NAME, a folder, or a pinned hub model owner/name@commit.

    Errors: ModelError, RecipeError.
    """
    place, revision = name_model(model, OPTION)
    given = {"model": place, "revision": revision, "module": module}
    try:
        return TeacherSource.model_validate(given)
    except ValidationError as error:
        mistakes = "; ".join(describe_mistakes(error, TeacherSource, given))
        raise ModelError(f"--teacher {model!r} with --teacher-module {module!r}: {mistakes}") from error


def _parse(settings: Mapping[str, Any]) -> DistillSettings:
    """Return the settings of a student. Errors: RecipeError naming the option."""
    try:
        return DistillSettings.model_validate(dict(settings))
    except ValidationError as error:
        mistakes = describe_mistakes(error, DistillSettings, dict(settings))
        options = [line.partition(": ") for line in mistakes]
        raise RecipeError("; ".join(f"--{key.replace('_', '-')}: {text}" for key, _, text in options)) from error


@dataclass(frozen=True)
class FoundTeacher:
    """A teacher before loading. `role` is its name in errors, `shown` its name in the report."""

    model: ResolvedModel
    source: TeacherSource
    home: Path
    role: str
    shown: str

    def describe(self) -> Teacher:
        """Return the teacher without its weights. Errors: ModelError."""
        with teacher_errors(self.role):
            return describe_classifier(self.model, self.source, self.role)

    def load(self) -> Teacher:
        """Return the teacher with its weights. Errors: ModelError."""
        with teacher_errors(self.role):
            return load_verifier(self.model, self.source, self.home, self.role)


@contextmanager
def teacher_errors(role: str) -> Iterator[None]:
    """Add to an error about a teacher the options that repair it. Errors: ModelError."""
    try:
        yield
    except ModelError as error:
        if role == OPTION:
            raise ModelError(str(error).replace("--teacher.module", "--teacher-module")) from error
        raise ModelError(
            f"{error}; name the recipe's folder by --folder, or a teacher by --teacher (and --teacher-module)"
        ) from error


def _find_teacher(
    dataset: str | None, store: str, named: TeacherSource | None, folder: Path | None, module: str | None
) -> FoundTeacher:
    """Return the teacher that the user named, else the version's. Errors: ModelError."""
    if named is not None:
        return _find_named(named)
    if dataset is None:
        raise ModelError("images of your own have no teacher; name one by --teacher")

    version = load_dataset(Store.open(store), *split_reference(dataset))
    label = f"{version.name}@{version.version}"
    source = name_teacher(version, module)
    if source is None:
        raise ModelError(
            f"{label} was made by engine {version.recipe['engine']['kind']}, which has no teacher; name a classifier "
            "of its concepts by --teacher"
        )

    role = f"teacher of {label}"
    with teacher_errors(role):
        home = recipe_home(version.name, folder).resolve()
        resolved = resolve_model(source, home, role)
        _require_same(version, source, resolved.digest, label)
    return FoundTeacher(resolved, source, home, role, _shown(source))


def _find_named(named: TeacherSource) -> FoundTeacher:
    """Return the teacher that the user named. Errors: ModelError."""
    with teacher_errors(OPTION):
        resolved = resolve_model(named, Path.cwd(), OPTION)
        if named.module is None:
            require_kind(resolved, OPTION, CLASSIFIER)
    return FoundTeacher(resolved, named, Path.cwd(), OPTION, _shown(named))


def _require_same(version: Dataset, source: TeacherSource, digest: str, label: str) -> None:
    """Check that the teacher's digest equals the version's. Errors: ModelError."""
    recorded = version.lineage.get("models", {}).get("generator", {}).get("digest")
    if recorded not in (None, digest):
        changed = "its files or its code" if source.module else "its files"
        raise ModelError(
            f"the teacher of {label} changed since the version was made: {changed} have digest {digest}, "
            f"the version records {recorded}; restore the teacher"
        )


def _shown(source: TeacherSource) -> str:
    """Return the model's name without local folders."""
    if source.revision:
        return f"{source.model}@{source.revision}"
    return source.model if source.model.startswith("catalog:") else Path(source.model).name


def _without_folders(origin: str, source: str) -> str:
    """Return the name of images in the report: a file or folder without its parents."""
    return origin.replace(str(Path(source)), Path(source).resolve().name, 1) if Path(source).exists() else origin


def choose_images(images: Images, count: int | None, seed: int) -> NDArray[np.int64]:
    """Return the rows of a random choice of `count` images, with equal numbers per class where possible.

    Without a count, return all rows. Errors: ImagesError if there are fewer images than `count`.
    """
    if count is None:
        return np.arange(len(images))
    if count > len(images):
        raise ImagesError(
            f"{images.origin} has {count_of(len(images), 'image')}, --images requests {count}; request fewer"
        )
    folded = [look(label) for label in images.require_labels()]
    _, numbers = np.unique(folded, return_inverse=True)
    return choose_rows(numbers, count, seed)


def _decode(
    named: FoundTeacher, images: Sequence[Images], rows: Sequence[NDArray[np.int64]], fit: Fit
) -> list[NDArray[np.uint8]]:
    """Return the pixels of the chosen rows in the teacher's format. Errors: ImagesError, also for an unknown class."""
    told = named.describe()
    for each in images:
        if told.class_names:
            label_rows(each, _label_of(told, each))
    return [decode_pixels(each, told.size, told.channels, those, fit) for each, those in zip(images, rows, strict=True)]


def _label_of(teacher: Teacher, images: Images) -> LabelOf:
    """Return a function from a class name to the teacher's number. Errors: ImagesError for an unknown class."""

    def label_of(label: str) -> int:
        """Return the teacher's number of a class."""
        try:
            return teacher.label(label)
        except RecipeError as error:
            raise ImagesError(f"{images.origin}: {error}") from error

    return label_of
