"""The repaired samples of a dataset: `repairs/<dataset>/<parent's sample_id>.json` in the store.

A record outlives versions and builds, like a review. The next build of the dataset applies it.
"""

from tailforge.catalog.store import Store
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.errors import NotFoundError, StoreAccessError
from tailforge.schemas.explanation import RepairRecord

FOLDER = "repairs"


def list_repairs(store: Store, dataset: str) -> tuple[RepairRecord, ...]:
    """Return all repairs of a dataset in the order of the parents' ids.

    Errors: StoreAccessError for a damaged record or a damaged image.
    """
    folder = f"{FOLDER}/{dataset}"
    names = [name for name in store.names(folder) if name.endswith(".json") and not name.startswith(".")]
    return tuple(_read(store, f"{folder}/{name}") for name in names)


def _read(store: Store, path: str) -> RepairRecord:
    """Return a repair whose files have their recorded sizes. Errors: StoreAccessError."""
    try:
        found = RepairRecord.model_validate(parse_object(store.read(path)))
        changed = [uri for uri, size in found.samples.files.items() if store.size(uri) != size]
        if not changed:
            return found
        problem = f"{changed[0]} has another size"
    except FileNotFoundError as error:
        problem = f"its image or its page is gone: {error.filename or error}"
    except ValueError as error:
        problem = f"it cannot be read: {describe_damage(error)}"

    raise StoreAccessError(
        f"the repair {store.uri}/{path} cannot be used: {problem}; repair the sample again by "
        "`tailforge explain --repair`, or remove that file"
    )


def record_repair(store: Store, repair: RepairRecord) -> None:
    """Record a repair for the next build, in place of an earlier one of the same sample. Errors: StoreError."""
    store.write_bytes(f"{FOLDER}/{repair.dataset}/{repair.parent}.json", repair.model_dump_json(indent=1).encode())


def forget_repair(store: Store, dataset: str, parent: str) -> None:
    """Remove the repair of a sample, so that the next build uses its original image. Errors: NotFoundError."""
    path = f"{FOLDER}/{dataset}/{parent}.json"
    if not store.exists(path):
        raise NotFoundError(f"sample {parent} of {dataset} has no repair in {store.uri}/{FOLDER}; nothing to undo")
    store.remove(path)
