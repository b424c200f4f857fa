"""Which samples of a dataset were mended, and with what: `repairs/<dataset>/<parent's sample_id>.json` in the store.

A record outlives versions and builds, as a person's decision does; the next build of the dataset honours it.
"""

from pydantic import ValidationError

from catalog.store import Store
from schemas.errors import NotFoundError, StoreAccessError
from schemas.explanation import Repair

FOLDER = "repairs"


def list_repairs(store: Store, dataset: str) -> tuple[Repair, ...]:
    """Every repair of a dataset, by the parent's id. Errors: StoreAccessError for a record or image that is damaged."""
    folder = f"{FOLDER}/{dataset}"
    names = [name for name in store.names(folder) if name.endswith(".json") and not name.startswith(".")]
    return tuple(_read(store, f"{folder}/{name}") for name in names)


def _read(store: Store, path: str) -> Repair:
    try:
        found = Repair.model_validate_json(store.read(path))
        if store.size(found.samples.uri) == found.samples.bytes:
            return found
        what = f"its image in {found.samples.uri} has another size"
    except FileNotFoundError as error:
        what = f"its image is gone: {error}"
    except ValidationError as error:
        what = f"it cannot be read: {error}"
    raise StoreAccessError(
        f"the repair {store.uri}/{path} cannot be used: {what}; mend the sample again by `tailforge explain --repair`, "
        "or remove that file"
    )


def record_repair(store: Store, repair: Repair) -> None:
    """Let the next build honour a repair; an earlier one of the same sample is replaced."""
    store.write_bytes(f"{FOLDER}/{repair.dataset}/{repair.parent}.json", repair.model_dump_json(indent=1).encode())


def forget_repair(store: Store, dataset: str, parent: str) -> None:
    """Let the next build take the sample as it was drawn. Errors: NotFoundError where it was never mended."""
    path = f"{FOLDER}/{dataset}/{parent}.json"
    if not store.exists(path):
        raise NotFoundError(f"sample {parent} of {dataset} has no repair in {store.uri}/{FOLDER}; nothing to undo")
    store.remove(path)
