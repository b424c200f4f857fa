"""The last build of each dataset: `builds/<dataset>.json` in the store, with the recipe's name and its overrides.

So a user can check on a build without giving the overrides again. Strangers may write to the store, so its values never
choose the code to run: see flows/build/choose.py.
"""

from pydantic import BaseModel, ConfigDict, ValidationError

from tailforge.catalog.store import Store
from tailforge.schemas.errors import StoreAccessError

FOLDER = "builds"
FORMAT = "tailforge-build/1"


class LastBuild(BaseModel):
    """The recipe of a build.

    `recipe`: name in the catalog, absolute path of a file, or dataset@version. `overrides`: values of --set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: str = FORMAT
    recipe: str
    overrides: tuple[str, ...] = ()


def record_build(store: Store, dataset: str, build: LastBuild) -> None:
    """Record the last build of a dataset, in place of an earlier one. Errors: StoreError."""
    store.write_bytes(_path(dataset), build.model_dump_json(indent=1).encode())


def read_last_build(store: Store, dataset: str) -> LastBuild | None:
    """Return the last build of a dataset, or None if none is recorded. Errors: StoreAccessError for a damaged file."""
    path = _path(dataset)
    if not store.exists(path):
        return None
    try:
        found = LastBuild.model_validate_json(store.read(path))
        if found.format != FORMAT:
            raise ValueError(f"its format is {found.format!r:.80}, here it is {FORMAT!r}")
    except (ValidationError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise StoreAccessError(f"{store.uri}/{path} cannot be read: {text}; remove it, and name the recipe") from error
    return found


def _path(dataset: str) -> str:
    """Return the path of a dataset's record, relative to the store."""
    return f"{FOLDER}/{dataset}.json"
