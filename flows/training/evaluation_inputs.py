"""Read and check everything that an evaluation compares, before any training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from tailforge.catalog.images.records import Images
from tailforge.catalog.images.versions import open_published
from tailforge.catalog.inspection.sizes import Sizes, summarise_sizes
from tailforge.catalog.reading.version import Version, open_version
from tailforge.catalog.sources.recipes import recipe_home
from tailforge.catalog.sources.references import open_references
from tailforge.catalog.store import Store
from tailforge.flows.build.choose import split_reference
from tailforge.flows.training.evaluation_models import complete_settings, find_candidate
from tailforge.schemas.checks.mistakes import refuse_options
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError, RecipeError
from tailforge.schemas.evaluation import EvaluationSettings, FitSettings
from tailforge.schemas.options import Fit
from tailforge.schemas.prices import Prices
from tailforge.schemas.recipe import Concept
from tailforge.tasks.images.evaluated import (
    TEST,
    TRAIN,
    VALIDATION,
    NamedPictures,
    open_further,
    open_real,
    read_named,
    read_photographs,
    require_classes,
)
from tailforge.tasks.images.targets import Format, LabelReader, MaskReader, TargetReader
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.evaluation.leakage import Fingerprints, Leak, find_leaks
from tailforge.tasks.methods.evaluation.metrics import name_groups
from tailforge.tasks.methods.evaluation.models import Model
from tailforge.tasks.methods.evaluation.summary import Classes
from tailforge.tasks.methods.evaluation.task import Task
from tailforge.tasks.methods.evaluation.tasks import TASKS

SHOWN_LEAKS = 3


@dataclass(frozen=True)
class Request:
    """What a person asks. `reference` and `against`: dataset or dataset@version; `real`: as `open_images` takes it.

    `renamed`: real class by a version's class. `size`: (height, width); None: chosen by the images, and so is `fit`.
    `folder`: where the reference photographs of the version's recipe start; `root`: where paths in a table of real
    images start. `held_back`: further real images of rare classes, for the learning curve. `mask_classes`: names of the
    values of real masks. `prices`: for the costs beside the record.
    """

    reference: str
    store: str
    real: str
    settings: EvaluationSettings
    against: Sequence[str] = ()
    renamed: Mapping[str, str] | None = None
    size: tuple[int, int] | None = None
    fit: Fit | None = None
    folder: Path | None = None
    root: Path | None = None
    held_back: str | None = None
    mask_classes: tuple[str, ...] = ()
    prices: Prices = field(default_factory=Prices)


@dataclass(frozen=True)
class Inputs:
    """What an evaluation compares. `versions`: the version, then its rivals; `synthetic`: their images by label.

    `fit`: how `model` is trained. `unseen`: concepts whose reference photographs were not found, so that test images
    are compared with their digests only. `held_back`: further real images of rare classes, None without.
    """

    store: Store
    versions: tuple[Version, ...]
    origin: str
    task: Task
    model: Model
    fit: FitSettings
    classes: Classes
    format: Format
    real: Mapping[str, NamedPictures]
    synthetic: Mapping[str, NamedPictures]
    leaks: tuple[Leak, ...]
    unseen: tuple[str, ...]
    held_back: NamedPictures | None = None

    @cached_property
    def all_real(self) -> Examples:
        """Return the real training images, then the held-back ones."""
        own = self.real[TRAIN].examples
        return own.joined(self.held_back.examples) if self.held_back else own

    @property
    def counts(self) -> tuple[int, ...]:
        """Return the real training images per class."""
        return self.real[TRAIN].examples.counts


READERS: Mapping[str, Callable[[Request], TargetReader]] = {
    "classification": lambda asked: LabelReader(),
    "segmentation": lambda asked: MaskReader(asked.mask_classes, asked.settings.unmasked == "ignored"),
}


def parse_settings(given: Mapping[str, Any]) -> EvaluationSettings:
    """Return the settings of an evaluation. Errors: RecipeError naming the options."""
    chosen = {key: value for key, value in given.items() if value is not None}
    try:
        return EvaluationSettings.model_validate(chosen)
    except ValidationError as error:
        raise refuse_options(error, EvaluationSettings, chosen) from error


def read_inputs(asked: Request) -> Inputs:
    """Return what an evaluation compares, with leaked test images dropped.

    Errors: NotFoundError, VerificationError; ModelError for a model that cannot be trained; ImagesError for images and
    masks that do not fit, an unknown class, a version without an image of a rare class, held-back images that a
    learning curve cannot use, and leaked test images if they are refused.
    """
    task = TASKS[asked.settings.task]
    store = Store.open(asked.store)
    versions = _open_versions(store, (asked.reference, *asked.against))
    candidate = find_candidate(task, asked.settings)

    # The real images decide classes and format.
    images = open_real(asked.real, asked.store, asked.root)
    reader = READERS[task.name](asked)
    names = reader.name_classes(images)
    wanted = candidate.choose_format(images, _measure_drawn(versions), asked.size, asked.fit)
    model = candidate.open_model(wanted)

    kinds = {TRAIN: "training image", VALIDATION: "validation image", TEST: "test image"}
    real = {split: read_named(kinds[split], each, names, reader, wanted) for split, each in images.items()}
    shown = {split: _list_shown(real[split], names) for split in (VALIDATION, TEST)}
    require_classes(shown, names, asked.real)
    classes = _group_classes(names, real[TRAIN], asked.settings)
    synthetic = {each.label: _read_version(each, classes, reader, asked, wanted) for each in versions}
    held_back = _read_held_back(asked, classes, reader, wanted, real)

    photographs, unseen = _read_references(versions, asked.folder, wanted)
    known = [real[TRAIN].fingerprints, real[VALIDATION].fingerprints, *photographs]
    known += [each.fingerprints for each in synthetic.values()]
    known += [held_back.fingerprints] if held_back else []
    leaks = find_leaks(real[TEST].fingerprints, known)
    real[TEST] = _drop_leaks(real[TEST], leaks, classes, asked.settings)
    return Inputs(
        store=store,
        versions=versions,
        origin=asked.real,
        task=task,
        model=model,
        fit=complete_settings(task, model, asked.settings),
        classes=classes,
        format=wanted,
        real=real,
        synthetic=synthetic,
        leaks=tuple(leaks),
        unseen=unseen,
        held_back=held_back,
    )


def _open_versions(store: Store, references: Sequence[str]) -> tuple[Version, ...]:
    """Return the version and its rivals. Errors: NotFoundError; ImagesError for a version that is named twice."""
    found = [open_version(store, *split_reference(each), ("manifest",)) for each in references]
    labels = [each.label for each in found]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ImagesError(f"--against {twice[0]}: this version is named twice; name another")
    return tuple(found)


def _measure_drawn(versions: Sequence[Version]) -> Sizes:
    """Return the sizes of all images of the versions."""
    tables = [version.read_table("manifest", ("width", "height")) for version in versions]
    pairs = [zip(*(table[side].to_pylist() for side in ("width", "height")), strict=True) for table in tables]
    return summarise_sizes([(width, height, 3) for own in pairs for width, height in own])


def _list_shown(named: NamedPictures, classes: Sequence[str]) -> list[str]:
    return [name for name, count in zip(classes, named.examples.counts, strict=True) if count]


def _group_classes(names: Sequence[str], train: NamedPictures, settings: EvaluationSettings) -> Classes:
    """Return the classes with their groups. Errors: ImagesError without a rare class."""
    counts = train.examples.counts
    groups = name_groups(counts, settings.many, settings.few)
    rare = tuple(number for number, group in enumerate(groups) if group == "few")
    if not rare:
        raise ImagesError(
            f"no class of the real images is rare: each has more than {settings.few} training images, the fewest "
            f"{min(counts)}; raise --few, the most training images of a rare class"
        )
    return Classes(tuple(names), tuple(groups), rare)


def _read_version(
    version: Version, classes: Classes, reader: TargetReader, asked: Request, wanted: Format
) -> NamedPictures:
    """Return the training images of a version. Errors: ImagesError, also without an image of a rare class."""
    images: Images = open_published(version).of_split(TRAIN)
    kind = f"synthetic image of {version.label},"
    found = read_named(kind, images, classes.names, reader, wanted, asked.renamed or {})
    if not any(found.examples.counts[each] for each in classes.rare):
        rare = ", ".join(classes.names[number] for number in classes.rare)
        raise ImagesError(
            f"{images.origin} holds no image of a rare class, the rare classes are: {rare}; give another version, or "
            "raise --few, the most training images of a rare class"
        )
    return found


def _read_held_back(
    asked: Request, classes: Classes, reader: TargetReader, wanted: Format, real: Mapping[str, NamedPictures]
) -> NamedPictures | None:
    """Return further real images of rare classes; None if there are none to read.

    Errors: ImagesError, also if none is left beside equal files, and if a curve has no other point.
    """
    source = asked.held_back
    if source is None:
        if asked.settings.learning_curve and max(real[TRAIN].examples.counts[each] for each in classes.rare) < 2:
            raise ImagesError(
                "--learning-curve: no rare class has two training images, so there are none to leave out; give further "
                "real images of rare classes by --held-back"
            )
        return None
    if not asked.settings.learning_curve:
        raise ImagesError("--held-back has no effect without --learning-curve; give both or none")

    # Other classes and files that are among the real images have no part in the curve.
    rare = [classes.names[each] for each in classes.rare]
    images = reader.keep(open_further(source, asked.store, asked.root), rare)
    found = read_named("held-back image", images, classes.names, reader, wanted)
    known = {digest for each in real.values() for digest in each.digests}
    shown = set(np.flatnonzero(found.examples.shown[:, list(classes.rare)].any(1)).tolist())
    found = found.without([row for row, own in enumerate(found.digests) if own in known or row not in shown])
    if not found.names:
        raise ImagesError(
            f"--held-back {images.origin} holds no image of a rare class that is not among the real images, the rare "
            f"classes are: {', '.join(rare)}; give other images"
        )
    return found


def _read_references(
    versions: Sequence[Version], folder: Path | None, wanted: Format
) -> tuple[list[Fingerprints], tuple[str, ...]]:
    """Return the reference photographs of the versions, and the concepts whose photographs are not there.

    Photographs that are not there are known by the digests that the version records.
    """
    found, unseen = [], []
    for version in versions:
        home = recipe_home(version.dataset.name, folder).resolve()
        digests = version.dataset.lineage.get("references", {})

        # Concepts without photographs have nothing to compare.
        for entry in version.dataset.recipe["concepts"]:
            if not entry.get("references"):
                continue
            name = entry["name"]
            concept = Concept(name=name, wanted=1, references=entry["references"])
            try:
                found.append(read_photographs(name, list(open_references(home, concept)), wanted))
            except RecipeError:
                known = digests.get(name, ())
                places = [f"{name} {digest[:12]}" for digest in known]
                found.append(Fingerprints("reference photograph", places, known))
                unseen.append(f"{version.label}: {name}")
    return found, tuple(unseen)


def _drop_leaks(
    test: NamedPictures, leaks: Sequence[Leak], classes: Classes, settings: EvaluationSettings
) -> NamedPictures:
    """Return the test images without the leaked ones.

    Errors: ImagesError if they are refused, or if a class has no other test image.
    """
    told = "; ".join(leak.describe() for leak in leaks[:SHOWN_LEAKS])
    more = f"; and {len(leaks) - SHOWN_LEAKS} more" if len(leaks) > SHOWN_LEAKS else ""
    if leaks and settings.leaked == "refuse":
        raise ImagesError(
            f"{count_of(len(leaks), 'test image')} cannot measure a model that has seen them: {told}{more}; remove "
            "them, or leave --leaked refuse out to drop them"
        )

    # Every class needs a test image still.
    kept = test.without([leak.image for leak in leaks])
    counts = kept.examples.counts
    if empty := [name for name, count in zip(classes.names, counts, strict=True) if not count]:
        raise ImagesError(
            f"the class {empty[0]} has no test image left: {count_of(len(leaks), 'test image')} leaked ({told}{more}); "
            "give other test images of it"
        )
    return kept
