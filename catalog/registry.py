"""Datasets and versions in a store. A version exists when its dataset.json does; it never changes afterwards."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from catalog.diff import VersionDiff
from catalog.store import Store
from schemas import fields
from schemas.errors import NotFoundError, VerificationError
from schemas.quality import Category
from schemas.shown import show_text
from schemas.training_record import TrainingRecord

DATASETS = "datasets"
DATASET_FILE = "dataset.json"
NAME = re.compile(fields.NAME)
VERSION = re.compile(r"^(\d+)\.(\d+)\.(\d+)$")
FIRST_VERSION = "1.0.0"


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(Strict):
    bytes: int
    sha256: str


class ShardEntry(Strict):
    """One tar under shards/; `split` names what its samples belong to."""

    name: str
    split: str
    samples: int
    bytes: int
    sha256: str


class Counts(Strict):
    """Samples that are published, and those in rejects.parquet: rejected, or surplus.

    Surplus passed every gate when enough had been accepted; older versions count it as rejected.
    """

    samples: int
    rejected: int
    surplus: int = 0
    by_split: Mapping[str, int]
    by_concept: Mapping[str, int]


class Changes(Strict):
    """What this version changed of the one before it."""

    previous: str | None = None
    added: int = 0
    removed: int = 0
    changed: int = 0


class Dataset(Strict):
    """The content of dataset.json. `created` is the only time that a version holds (ISO 8601, UTC).

    `categories` are what values of the masks mean, value 1 first: the classes, then further things and stuff. Versions
    that say nothing of them, as older ones, have just the classes. `generator_training`: of a generator that tells it.
    """

    format: Literal["tailforge-dataset/1"] = "tailforge-dataset/1"
    name: str
    version: str
    created: str
    changes: Changes
    counts: Counts
    fields: tuple[str, ...]
    classes: tuple[str, ...]
    categories: tuple[Category, ...] = ()
    recipe: Mapping[str, Any]
    lineage: Mapping[str, Any]
    generator_training: TrainingRecord | None = None
    shards: tuple[ShardEntry, ...]
    files: Mapping[str, FileEntry]

    @property
    def mask_categories(self) -> tuple[Category, ...]:
        """`categories`, or the classes."""
        return self.categories or tuple(Category(name=name) for name in self.classes)


def is_of_category(dataset: Dataset, instance: Mapping[str, Any]) -> bool:
    """Whether an instance's number is that of the category which it names."""
    number, categories = int(instance["category_id"]), dataset.mask_categories
    return 1 <= number <= len(categories) and categories[number - 1].name == str(instance["category"])


def require_there(store: Store, wanted: str = "") -> None:
    """Errors: NotFoundError for a store in which nothing was ever made, which names what is wanted of it."""
    if not store.exists(""):
        raise NotFoundError(
            f"{wanted}store {store.uri} does not exist; name another by --store, or make it by `tailforge build`"
        )


def list_datasets(store: Store) -> list[str]:
    """Names of the datasets that have a version."""
    return [name for name in store.names(DATASETS) if not name.startswith(".") and list_versions(store, name)]


def list_versions(store: Store, name: str) -> list[str]:
    """Published versions, oldest number first."""
    found = [version for version in store.names(f"{DATASETS}/{name}") if VERSION.match(version)]
    published = [version for version in found if store.exists(f"{DATASETS}/{name}/{version}/{DATASET_FILE}")]
    return sorted(published, key=version_number)


def latest_version(store: Store, name: str) -> str | None:
    versions = list_versions(store, name)
    return versions[-1] if versions else None


def version_number(version: str) -> tuple[int, ...]:
    """(major, minor, patch). Errors: NotFoundError for a text that is no version."""
    match = VERSION.match(version)
    if match is None:
        raise NotFoundError(f"{version!r} is no version; give three numbers such as 1.0.0, or latest")
    return tuple(int(number) for number in match.groups())


def version_folder(store: Store, name: str, version: str = "latest") -> str:
    """Folder of a version, relative to the store. Errors: NotFoundError that lists what there is."""
    versions = list_versions(store, name) if NAME.match(name) else []
    if not versions:
        require_there(store, f"there is no dataset {show_text(name)}: ")
        known = ", ".join(list_datasets(store)) or "none"
        raise NotFoundError(f"store {store.uri} has no dataset {name!r}; it has: {known}")
    chosen = versions[-1] if version == "latest" else version
    if chosen not in versions:
        raise NotFoundError(f"dataset {name} has no version {version!r}; it has: {', '.join(versions)}")
    return f"{DATASETS}/{name}/{chosen}"


def load_dataset(store: Store, name: str, version: str = "latest") -> Dataset:
    """Errors: NotFoundError; VerificationError if dataset.json cannot be read as one."""
    path = f"{version_folder(store, name, version)}/{DATASET_FILE}"
    try:
        return Dataset.model_validate(json.loads(store.read(path)))
    except (ValueError, ValidationError) as error:
        raise VerificationError(
            f"{store.uri}/{path} is damaged: {error}; remove that version's folder and build the recipe again"
        ) from error


def next_version(previous: str | None, difference: VersionDiff) -> str:
    """Number after `previous`: its major part moves for edited or removed rows, its minor part for additions alone,
    and its patch part where every row is as it was."""
    if previous is None:
        return FIRST_VERSION
    major, minor, patch = version_number(previous)
    if difference.removed or difference.changed:
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if difference.added else f"{major}.{minor}.{patch + 1}"
