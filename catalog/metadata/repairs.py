"""Which samples of a dataset were mended, and with what: `repairs/<dataset>/<parent's sample_id>.json` in the store.

A record outlives versions and builds, as a person's decision does; the next build of the dataset honours it.
"""

from tailforge.catalog.store import Store
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.errors import NotFoundError, StoreAccessError
from tailforge.schemas.explanation import RepairRecord

FOLDER = "repairs"


def list_repairs(store: Store, dataset: str) -> tuple[RepairRecord, ...]:
    """Every repair of a dataset, by the parent's id. Errors: StoreAccessError for a record or image that is damaged."""
    folder = f"{FOLDER}/{dataset}"
    names = [name for name in store.names(folder) if name.endswith(".json") and not name.startswith(".")]
    return tuple(_read(store, f"{folder}/{name}") for name in names)


def _read(store: Store, path: str) -> RepairRecord:
    try:
        found = RepairRecord.model_validate(parse_object(store.read(path)))
        changed = [uri for uri, size in found.samples.files.items() if store.size(uri) != size]
        if not changed:
            return found
        what = f"{changed[0]} has another size"
    except FileNotFoundError as error:
        what = f"its image or its page is gone: {error.filename or error}"
    except ValueError as error:
        what = f"it cannot be read: {describe_damage(error)}"
    raise StoreAccessError(
        f"the repair {store.uri}/{path} cannot be used: {what}; mend the sample again by `tailforge explain --repair`, "
        "or remove that file"
    )


def record_repair(store: Store, repair: RepairRecord) -> None:
    """Let the next build honour a repair; an earlier one of the same sample is replaced."""
    store.write_bytes(f"{FOLDER}/{repair.dataset}/{repair.parent}.json", repair.model_dump_json(indent=1).encode())


def forget_repair(store: Store, dataset: str, parent: str) -> None:
    """Let the next build take the sample as it was drawn. Errors: NotFoundError where it was never mended."""
    path = f"{FOLDER}/{dataset}/{parent}.json"
    if not store.exists(path):
        raise NotFoundError(f"sample {parent} of {dataset} has no repair in {store.uri}/{FOLDER}; nothing to undo")
    store.remove(path)
