"""dataset.json: the record of a published version. A validated record is safe to use, also of unknown origin.

Its names become paths and its numbers sizes. This module bounds both for all readers and commands.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tailforge.schemas.documents.shown import count_of, is_seen
from tailforge.schemas.recipe import MASK_VALUES
from tailforge.schemas.settings.annotation import Category
from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.schemas.settings.engines import find_settings
from tailforge.schemas.settings.fields import FolderName, Strict
from tailforge.schemas.settings.licences import OtherLicence
from tailforge.schemas.training.record import Sha256, TrainingRecord

VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")
IMAGE_FIELDS = ("png", "jpg")
NEEDED_FIELDS = {"cls", "json", "seg.png", "txt"}
ARRAY_FIELDS = {"attn.npy", "noise.npy"}
FILE_PATH = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}/){0,4}[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
HEADER_BYTES = 1024  # smallest size of a member in a tar: its header and a block of data
MOST = 2**53  # JSON readers disagree on larger whole numbers


def _check_seen(name: str) -> str:
    """Refuse a name with control characters. Errors: ValueError."""
    if not is_seen(name):
        raise ValueError("a name holds a line break or another control character")
    return name


def _check_moment(text: str) -> str:
    """Refuse a text that is no ISO 8601 time. Errors: ValueError."""
    datetime.fromisoformat(text)
    return text


def _check_path(path: str) -> str:
    """Refuse a path outside the version's folder or with unusual characters. Errors: ValueError."""
    if not FILE_PATH.fullmatch(path):
        raise ValueError("a file's path is not of the form that files of a version have")
    return path


def _check_version(text: str) -> str:
    """Refuse a text that is no version number. Errors: ValueError."""
    if not VERSION.fullmatch(text):
        raise ValueError("must be three numbers such as 1.0.0")
    return text


Count = Annotated[int, Field(ge=0, le=MOST)]
Version = Annotated[str, AfterValidator(_check_version)]
ClassName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_check_seen)]
Moment = Annotated[str, Field(max_length=64), AfterValidator(_check_moment)]
FileName = Annotated[str, AfterValidator(_check_path)]
Stage = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]


class FileEntry(Strict):
    """Size and digest of a file."""

    bytes: Count
    sha256: Sha256


class ShardEntry(Strict):
    """One tar in shards/, with samples of one split."""

    name: str = Field(max_length=128)
    split: FolderName
    samples: int = Field(ge=1, le=MOST)
    bytes: Count
    sha256: Sha256

    @model_validator(mode="after")
    def _named_after_its_split(self) -> Self:
        if not re.fullmatch(rf"{re.escape(self.split)}-[0-9]{{6,12}}\.tar", self.name):
            raise ValueError(f"a shard of split {self.split!r} is called {self.split}-000000.tar and so on")
        return self


class Counts(Strict):
    """Numbers of published samples, and of the rejected and surplus samples in rejects.parquet.

    Surplus samples passed every gate after enough had been accepted. Older versions count them as rejected.
    """

    samples: Count
    rejected: Count
    surplus: Count = 0
    by_split: Mapping[FolderName, Count]
    by_concept: Mapping[ClassName, Count]


class Changes(Strict):
    """Numbers of samples added, removed and changed since the previous version."""

    previous: Version | None = None
    added: Count = 0
    removed: Count = 0
    changed: Count = 0


class _Read(BaseModel):
    """Base of parts whose unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _PublishedConcept(_Read):
    name: ClassName
    wanted: Count


class _PublishedEngine(_Read):
    kind: str


class _PublishedQuality(_Read):
    gates: Mapping[str, Any] | None = None


class _PublishedRecipe(_Read):
    """The keys of a stored recipe that readers use. Older recipes lack newer keys, so only builds parse the whole."""

    description: str
    license: str | OtherLicence
    creator: str
    concepts: tuple[_PublishedConcept, ...] = Field(min_length=1)
    engine: _PublishedEngine
    quality: _PublishedQuality = _PublishedQuality()
    generator: Mapping[str, Any] | None

    @model_validator(mode="after")
    def _names_its_generator(self) -> Self:
        if self.generator is None and (find_settings(self.engine.kind) or EngineSettings).needs_generator:
            raise ValueError("the recipe names no generator, which its engine needs")
        return self


class _LineageLora(_Read):
    file: str
    weight: float
    digest: str
    license: str | None = None


class _LineageModel(_Read):
    digest: str
    revision: str | None = None
    loras: tuple[_LineageLora, ...] = ()
    control: Mapping[str, Any] | None = None


class _LineagePhotographs(_Read):
    license: str | OtherLicence


class _Lineage(_Read):
    fingerprints: Mapping[Stage, tuple[Fingerprint, ...]]
    models: Mapping[str, _LineageModel] = {}
    references: Mapping[str, tuple[str, ...]] = {}
    photographs: Mapping[str, _LineagePhotographs] = {}
    versions: Mapping[str, tuple[str, ...]] = {}
    rounds: tuple[Mapping[str, Count], ...] = ()
    selection: str | None = None
    inversion: Mapping[str, Any] = {}


def _check_recipe(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the recipe unchanged if its used keys are valid. Errors: ValidationError."""
    _PublishedRecipe.model_validate(found)
    return found


def _check_lineage(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the lineage unchanged if its used keys are valid. Errors: ValidationError."""
    _Lineage.model_validate(found)
    return found


def _check_fields(fields: Sequence[str]) -> Sequence[str]:
    """Refuse fields of samples that no version has. Errors: ValueError."""
    known = set(fields)
    if list(fields) != sorted(known) or not known >= NEEDED_FIELDS or len(known & set(IMAGE_FIELDS)) != 1:
        raise ValueError(f"fields of samples are {', '.join(sorted(NEEDED_FIELDS))} and png or jpg, sorted")
    if strange := known - NEEDED_FIELDS - ARRAY_FIELDS - set(IMAGE_FIELDS):
        raise ValueError(f"unknown field {min(strange)!r:.80}")
    return fields


class Dataset(Strict):
    """The content of dataset.json.

    `created`: the version's only time (ISO 8601, UTC). `categories`: meanings of the masks' values, from value 1: the
    classes, then further things, then stuff; older versions leave them out. `generator_training`: the record of the
    generator's training, if it has one.
    """

    format: Literal["tailforge-dataset/1"] = "tailforge-dataset/1"
    name: FolderName
    version: Version
    created: Moment
    changes: Changes
    counts: Counts
    fields: Annotated[tuple[str, ...], AfterValidator(_check_fields)]
    classes: tuple[ClassName, ...] = Field(min_length=1, max_length=MASK_VALUES)
    categories: tuple[Category, ...] = Field((), max_length=MASK_VALUES)
    recipe: Annotated[Mapping[str, Any], AfterValidator(_check_recipe)]
    lineage: Annotated[Mapping[str, Any], AfterValidator(_check_lineage)]
    generator_training: TrainingRecord | None = None
    shards: tuple[ShardEntry, ...]
    files: Mapping[FileName, FileEntry]

    @property
    def license(self) -> str | OtherLicence:
        """Return the licence that the version states for its images; older versions may hold any text."""
        return _PublishedRecipe.model_validate(self.recipe).license

    @property
    def photographs(self) -> dict[str, str | OtherLicence]:
        """Return the licence of the photographs that the images come from, by their use; empty in older versions."""
        found = _Lineage.model_validate(self.lineage).photographs
        return {use: each.license for use, each in found.items()}

    @property
    def mask_categories(self) -> tuple[Category, ...]:
        """Return `categories`, or the classes if there are none."""
        return self.categories or tuple(Category(name=name) for name in self.classes)

    @model_validator(mode="after")
    def _categories_begin_with_the_classes(self) -> Self:
        names = [category.name for category in self.mask_categories]
        if tuple(names[: len(self.classes)]) != self.classes or len(set(names)) < len(names):
            raise ValueError("categories are the classes, then others, each once")
        for name in names:
            _check_seen(name)
        things = [category.thing for category in self.mask_categories]
        if things != sorted(things, reverse=True):
            raise ValueError("categories are things first, then stuff")
        return self

    @model_validator(mode="after")
    def _shards_are_files(self) -> Self:
        if len({shard.name for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard is listed twice")
        for shard in self.shards:
            if self.files.get(f"shards/{shard.name}") != FileEntry(bytes=shard.bytes, sha256=shard.sha256):
                raise ValueError(f"shards and files disagree on {shard.name}")
            if shard.samples * len(self.fields) * HEADER_BYTES > shard.bytes:
                raise ValueError(
                    f"{shard.name} is too small for the {count_of(shard.samples, 'sample')} that it should hold"
                )
        return self
