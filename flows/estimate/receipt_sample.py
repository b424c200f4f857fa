"""Receipts to learn from: a bounded number a stage, those of this build and of its dataset's last version first."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from tailforge.catalog.registry import latest_version, load_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.errors import TailforgeError
from tailforge.schemas.receipts import Receipt

ENOUGH = 60  # receipts of a stage; more would not narrow an estimate by much
SAMPLED = 60  # further ones, read from wherever they lie in the store


def last_version(store: Store, name: str) -> Dataset | None:
    """The latest version of a dataset; None where there is none that can be read."""
    with suppress(TailforgeError, ValueError):
        version = latest_version(store, name)
        return None if version is None else load_dataset(store, name, version)
    return None


def read_known(store: Store, stage: str, own: Sequence[Receipt], version: Dataset | None) -> list[Receipt]:
    """Receipts of a stage: `own` ones of this build, then of what the last version was made of, then any.

    Fingerprints are as good as random, so a slice of the sorted ones is a fair sample of the store.
    """
    found = {receipt.uri: receipt for receipt in islice((each for each in own if each.stage == stage), ENOUGH)}
    if len(found) < ENOUGH:
        made_of = version.lineage.get("fingerprints", {}).get(stage, []) if version else []
        places = [*made_of[: ENOUGH - len(found)], *store.names(f"artifacts/{stage}")[:SAMPLED]]
        for receipt in _read_all(store, stage, list(dict.fromkeys(places))):
            found.setdefault(receipt.uri, receipt)
    return list(found.values())


def _read_all(store: Store, stage: str, fingerprints: Sequence[str]) -> Iterator[Receipt]:
    """Those that can be read: another build may be writing or forgetting one."""
    for fingerprint in fingerprints:
        folder = f"artifacts/{stage}/{fingerprint}"
        for name in store.names(folder):
            if name.endswith(".json") and not name.startswith("."):
                with suppress(ValueError, FileNotFoundError):
                    yield Receipt.model_validate_json(store.read(f"{folder}/{name}"))
