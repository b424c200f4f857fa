"""What was built last of each dataset: `builds/<dataset>.json` in the store, the recipe's name and its overrides.

Whoever asks how that build goes need not give the same overrides again. The store may be anybody's, so what it says
here chooses no code: see flows/build/choose.py.
"""

from pydantic import BaseModel, ConfigDict, ValidationError

from tailforge.catalog.store import Store
from tailforge.schemas.errors import StoreAccessError

FOLDER = "builds"
FORMAT = "tailforge-build/1"


class LastBuild(BaseModel):
    """`recipe`: name in the catalog, absolute path of a file, or dataset@version. `overrides`: as --set gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: str = FORMAT
    recipe: str
    overrides: tuple[str, ...] = ()


def record_build(store: Store, dataset: str, build: LastBuild) -> None:
    """Let `read_last_build` find it; an earlier one of the same dataset is forgotten."""
    store.write_bytes(_path(dataset), build.model_dump_json(indent=1).encode())


def read_last_build(store: Store, dataset: str) -> LastBuild | None:
    """None where no build of the dataset was recorded. Errors: StoreAccessError for a damaged file."""
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
    return f"{FOLDER}/{dataset}.json"
