"""Choose receipts for an estimate: a bounded number per stage, first of this build and its dataset's last version."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from tailforge.catalog.registry import latest_version, load_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.errors import TailforgeError
from tailforge.schemas.receipts import Receipt

ENOUGH = 60  # receipts per stage; more hardly improve an estimate
SAMPLED = 60  # further receipts from the whole store


def last_version(store: Store, name: str) -> Dataset | None:
    """Return the latest version of a dataset, or None if there is none or it is unreadable."""
    with suppress(TailforgeError, ValueError):
        version = latest_version(store, name)
        return None if version is None else load_dataset(store, name, version)
    return None


def read_known(store: Store, stage: str, own: Sequence[Receipt], version: Dataset | None) -> list[Receipt]:
    """Return receipts of a stage: `own` of this build, then those of the last version, then others of the store.

    Fingerprints are uniform, so the first of them in sorted order are a fair sample of the store.
    """
    found = {receipt.uri: receipt for receipt in islice((each for each in own if each.stage == stage), ENOUGH)}
    if len(found) < ENOUGH:
        made_of = version.lineage.get("fingerprints", {}).get(stage, []) if version else []
        places = [*made_of[: ENOUGH - len(found)], *store.names(f"artifacts/{stage}")[:SAMPLED]]
        for receipt in _read_all(store, stage, list(dict.fromkeys(places))):
            found.setdefault(receipt.uri, receipt)
    return list(found.values())


def _read_all(store: Store, stage: str, fingerprints: Sequence[str]) -> Iterator[Receipt]:
    """Yield the readable receipts. Another build may be writing or removing one."""
    for fingerprint in fingerprints:
        folder = f"artifacts/{stage}/{fingerprint}"
        for name in store.names(folder):
            if name.endswith(".json") and not name.startswith("."):
                with suppress(ValueError, FileNotFoundError):
                    yield Receipt.model_validate_json(store.read(f"{folder}/{name}"))
