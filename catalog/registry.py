"""Find datasets and versions in a store. A version exists if its dataset.json exists, and it never changes."""

import re
from collections.abc import Mapping
from typing import Any

from tailforge.catalog.diff import VersionDiff
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import VERSION, Dataset
from tailforge.schemas.documents.foreign_json import MOST_BYTES, describe_damage, parse_object
from tailforge.schemas.documents.shown import show_text
from tailforge.schemas.errors import NotFoundError, VerificationError
from tailforge.schemas.settings import fields

DATASETS = "datasets"
DATASET_FILE = "dataset.json"
NAME = re.compile(fields.NAME)
FIRST_VERSION = "1.0.0"


def is_of_category(dataset: Dataset, instance: Mapping[str, Any]) -> bool:
    """Return whether an instance's category_id has the instance's category name in the dataset."""
    number, categories = int(instance["category_id"]), dataset.mask_categories
    return 1 <= number <= len(categories) and categories[number - 1].name == str(instance["category"])


def require_there(store: Store, wanted: str = "") -> None:
    """Check that a store exists. `wanted` begins the error's text. Errors: NotFoundError."""
    if not store.exists(""):
        raise NotFoundError(
            f"{wanted}store {store.uri} does not exist; name another by --store, or make it by `tailforge build`"
        )


def list_datasets(store: Store) -> list[str]:
    """Return the names of the datasets with a version, sorted."""
    return [name for name in store.names(DATASETS) if NAME.fullmatch(name) and list_versions(store, name)]


def list_versions(store: Store, name: str) -> list[str]:
    """Return the published versions of a dataset in ascending order."""
    found = [version for version in store.names(f"{DATASETS}/{name}") if VERSION.fullmatch(version)]
    published = [version for version in found if store.exists(f"{DATASETS}/{name}/{version}/{DATASET_FILE}")]
    return sorted(published, key=version_number)


def latest_version(store: Store, name: str) -> str | None:
    """Return the latest version of a dataset, or None without one."""
    versions = list_versions(store, name)
    return versions[-1] if versions else None


def version_number(version: str) -> tuple[int, ...]:
    """Return (major, minor, patch) of a version. Errors: NotFoundError for a text that is no version."""
    match = VERSION.fullmatch(version)
    if match is None:
        raise NotFoundError(f"{version!r} is no version; give three numbers such as 1.0.0, or latest")
    return tuple(int(number) for number in match.groups())


def version_folder(store: Store, name: str, version: str = "latest") -> str:
    """Return the folder of a version, relative to the store. Errors: NotFoundError with the known names."""
    versions = list_versions(store, name) if NAME.fullmatch(name) else []
    if not versions:
        require_there(store, f"there is no dataset {show_text(name)}: ")
        known = ", ".join(list_datasets(store)) or "none"
        raise NotFoundError(f"store {store.uri} has no dataset {name!r}; it has: {known}")
    chosen = versions[-1] if version == "latest" else version
    if chosen not in versions:
        raise NotFoundError(f"dataset {name} has no version {version!r}; it has: {', '.join(versions)}")
    return f"{DATASETS}/{name}/{chosen}"


def load_dataset(store: Store, name: str, version: str = "latest") -> Dataset:
    """Return a version's record. Errors: NotFoundError; VerificationError if it is damaged or of another version."""
    folder = version_folder(store, name, version)
    path = f"{folder}/{DATASET_FILE}"
    found = read_record(store, path)
    if f"{DATASETS}/{found.name}/{found.version}" != folder:
        raise _damaged(store, path, f"it is the record of {found.name} {found.version}")
    return found


def read_record(store: Store, path: str) -> Dataset:
    """Return a dataset.json. Errors: VerificationError if it is damaged."""
    try:
        if store.size(path) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        return Dataset.model_validate(parse_object(store.read(path)))
    except ValueError as error:
        raise _damaged(store, path, describe_damage(error)) from error


def _damaged(store: Store, path: str, problem: str) -> VerificationError:
    """Return the error for a damaged dataset.json."""
    return VerificationError(
        f"{store.uri}/{path} is damaged: {problem}; remove that version's folder and build the recipe again"
    )


def next_version(previous: str | None, difference: VersionDiff) -> str:
    """Return the version after `previous`.

    Changed or removed samples raise the major part, added samples alone the minor part, and neither the patch part.
    """
    if previous is None:
        return FIRST_VERSION
    major, minor, patch = version_number(previous)
    if difference.removed or difference.changed:
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if difference.added else f"{major}.{minor}.{patch + 1}"
