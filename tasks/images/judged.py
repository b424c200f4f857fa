"""Real images that steer a build: found when it is prepared, and read without validation images that were learnt."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailforge.catalog.images.records import Images
from tailforge.catalog.sources.references import open_references
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError, RecipeError
from tailforge.schemas.jobs import BuildContext, ResolvedImages
from tailforge.schemas.recipe import Concept
from tailforge.schemas.settings.allocation import RealImages
from tailforge.schemas.settings.fields import look
from tailforge.tasks.images.captioned import find_path, find_root
from tailforge.tasks.images.evaluated import (
    TRAIN,
    VALIDATION,
    NamedPictures,
    choose_format,
    open_real,
    read_named,
    read_photographs,
    require_classes,
)
from tailforge.tasks.images.targets import Format, LabelReader
from tailforge.tasks.methods.evaluation.classification import CLASSIFICATION
from tailforge.tasks.methods.evaluation.leakage import Fingerprints, find_leaks

FIELD = "allocation.real"
SPLITS = (TRAIN, VALIDATION)  # a split test is never opened
KINDS = {TRAIN: "training image", VALIDATION: "validation image"}


@dataclass(frozen=True)
class JudgedImages:
    """Decoded real images of both splits. `dropped`: one line per validation image that a classifier has learnt."""

    train: NamedPictures
    validation: NamedPictures
    dropped: tuple[str, ...]


def resolve_real(source: RealImages, concepts: Sequence[Concept], folder: Path) -> ResolvedImages:
    """Return the real images that a recipe in `folder` names.

    Errors: NotFoundError, ImagesError for images that do not fit; RecipeError for a concept that is none of their
    classes.
    """
    path = find_path(source.folder, folder, FIELD)
    root = find_root(source.root, path, folder, FIELD)
    images = open_real(str(path), None, root, SPLITS)
    classes = LabelReader().name_classes(images)
    require_classes({VALIDATION: set(images[VALIDATION].require_labels())}, classes, source.folder)
    numbers = _match_concepts(source, concepts, classes)

    name, preset = next(iter(CLASSIFICATION.presets.items()))
    wanted = choose_format(images, source.size, source.fit, (preset.smallest, preset.largest), name, SIZE_ADVICE)
    return ResolvedImages(
        path=str(path),
        root=None if root is None else str(root),
        digest=_digest(images),
        classes=tuple(classes),
        numbers=tuple(numbers),
        height=wanted.size[0],
        width=wanted.size[1],
        channels=wanted.channels,
        fit=wanted.fit,
    )


SIZE_ADVICE = f"name a size by {FIELD}.height and {FIELD}.width, and say {FIELD}.fit crop, pad or stretch"


def _match_concepts(source: RealImages, concepts: Sequence[Concept], classes: Sequence[str]) -> list[int]:
    """Return the number of each concept's class. Errors: RecipeError."""
    known = {look(name): number for number, name in enumerate(classes)}
    named = {look(concept): real for concept, real in source.classes.items()}
    found = []
    for concept in concepts:
        name = named.get(look(concept.name), concept.name)
        if look(name) not in known:
            raise RecipeError(
                f"{FIELD}: {name!r} of concept {concept.name!r} is no class of the real images, which are: "
                f"{', '.join(classes)}; name the real class by {FIELD}.classes: {{{concept.name}: CLASS}}"
            )
        found.append(known[look(name)])
    if len({*found}) < len(found):
        raise RecipeError(f"{FIELD}.classes: two concepts have one real class; steering needs a class per concept")
    return found


def read_real(build: BuildContext) -> JudgedImages:
    """Return the real images of a build, without validation images that are twins of learnt ones.

    Errors: RecipeError if the images changed since the build began; ImagesError, also for a class without a validation
    image that was not learnt.
    """
    real = build.real
    assert real is not None
    images = open_real(real.path, None, None if real.root is None else Path(real.root), SPLITS)
    if _digest(images) != real.digest:
        raise RecipeError(f"{FIELD}: the images of {real.path} changed while the dataset was built; build again")
    wanted = Format((real.height, real.width), real.channels, real.fit)
    train, validation = (
        read_named(KINDS[split], images[split], real.classes, LabelReader(), wanted) for split in SPLITS
    )

    # A validation image that was learnt, here or by the search of the generator, measures nothing.
    leaks = find_leaks(validation.fingerprints, [train.fingerprints, *_read_references(build, wanted)])
    kept = validation.without([leak.image for leak in leaks])
    told = tuple(leak.describe() for leak in leaks)
    if empty := [name for name, n in zip(real.classes, kept.examples.counts, strict=True) if not n]:
        raise ImagesError(
            f"{FIELD}: the class {empty[0]} has no validation image left: {count_of(len(leaks), 'image')} of it "
            f"were learnt ({'; '.join(told[:3])}); give other validation images of it"
        )
    return JudgedImages(train, kept, told)


def _read_references(build: BuildContext, wanted: Format) -> list[Fingerprints]:
    named = [concept for concept in build.recipe.concepts if build.references.get(concept.name)]
    folder = Path(build.folder or ".")
    return [read_photographs(each.name, list(open_references(folder, each)), wanted) for each in named]


def _digest(images: Mapping[str, Images]) -> str:
    """Return the sha256 over split, label, group and bytes of all images."""
    whole = hashlib.sha256()
    for split, own in images.items():
        for label, group, data in zip(own.require_labels(), own.groups, own.stream(), strict=True):
            for part in (split, label, group or ""):
                whole.update(part.encode() + b"\0")
            whole.update(hashlib.sha256(data).digest())
    return whole.hexdigest()
