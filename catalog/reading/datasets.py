"""List the datasets and versions of a store, for users of the library."""

import os

from tailforge.catalog import registry
from tailforge.catalog.store import Store, is_address, local_path
from tailforge.schemas.errors import NotFoundError


def list_datasets(store: str | os.PathLike[str]) -> list[str]:
    """Return the names of a store's datasets, sorted.

    `store`: a path, relative to the current folder, or an address such as s3://bucket/store. Errors: NotFoundError if
    there is no store.
    """
    opened = _open(store)
    registry.require_there(opened)
    return registry.list_datasets(opened)


def list_versions(store: str | os.PathLike[str], name: str) -> list[str]:
    """Return the published versions of a dataset, oldest first. Errors: NotFoundError if there is no such dataset."""
    opened = _open(store)
    registry.require_there(opened)
    versions = registry.list_versions(opened, name)
    if not versions:
        raise NotFoundError(f"{opened.uri} holds no version of a dataset {name!r}; tailforge.list_datasets names them")
    return versions


def _open(store: str | os.PathLike[str]) -> Store:
    """Open a store by path or address."""
    given = os.fspath(store)
    return Store.open(given if is_address(given) else str(local_path(given)))
