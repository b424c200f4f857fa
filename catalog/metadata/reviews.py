"""What persons decided on samples of a dataset: `reviews/<dataset>.parquet` in the store, a row (REVIEWS) a sample.

The file outlives versions and builds; the next build of the dataset honours it. It is replaced whole, under a lock, so
that several pages may be open at once: the last word on a sample wins.
"""

import fcntl
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from tailforge.catalog.reading.tables import read_columns
from tailforge.catalog.store import Store, storage_errors
from tailforge.schemas.documents.foreign_json import describe_damage
from tailforge.schemas.errors import StoreAccessError, VerificationError
from tailforge.schemas.review import Decision, Review
from tailforge.schemas.tables import REVIEWS

FOLDER = "reviews"

Decisions = dict[str, Decision]


def read_decisions(store: Store, dataset: str) -> Decisions:
    """Every decision of a dataset by sample_id, sorted. Errors: StoreAccessError for a damaged file."""
    path = _path(dataset)
    if not store.exists(path):
        return {}
    try:
        found = [Decision.model_validate(row) for row in read_columns(store, path, REVIEWS.names).to_pylist()]
        return {each.sample_id: each for each in found}
    except (VerificationError, ValidationError) as error:
        raise StoreAccessError(
            f"the decisions in {store.uri}/{path} cannot be read: {describe_damage(error)}; put back a copy of "
            "that file, or remove it to build without them"
        ) from error


def list_reviews(store: Store, dataset: str) -> tuple[Review, ...]:
    """The decisions as a build takes them: without who, when and why, from which nothing of a version follows."""
    found = read_decisions(store, dataset).values()
    return tuple(Review(sample_id=each.sample_id, image=each.image, decision=each.decision) for each in found)


def record_decision(store: Store, dataset: str, decision: Decision) -> None:
    """Let the next build honour a decision; an earlier one on the same sample is replaced. Errors: StoreAccessError."""
    _change(store, dataset, lambda known: {**known, decision.sample_id: decision})


def forget_decision(store: Store, dataset: str, sample_id: str) -> None:
    """Let the next build decide by itself on a sample; nothing to do where nobody decided. Errors: StoreAccessError."""
    _change(store, dataset, lambda known: {name: each for name, each in known.items() if name != sample_id})


def _change(store: Store, dataset: str, change: Callable[[Decisions], Decisions]) -> None:
    with _lock(store, dataset):
        changed = change(read_decisions(store, dataset))
        rows = [changed[sample_id].model_dump() for sample_id in sorted(changed)]
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, REVIEWS), out, compression="zstd")
        store.write_bytes(_path(dataset), out.getvalue())


@contextmanager
def _lock(store: Store, dataset: str) -> Iterator[None]:
    """Held by one writer at a time, of this process or another; the system lets go of it when a process ends."""
    if not store.is_local:
        raise StoreAccessError(f"store {store.uri}: decisions need a folder on a local disk; give one by --store")
    path = store.path(f"{FOLDER}/{dataset}.lock")
    with storage_errors("write", path):
        store.fs.makedirs(store.path(FOLDER), exist_ok=True)
        file = open(path, "a")  # noqa: SIM115
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _path(dataset: str) -> str:
    return f"{FOLDER}/{dataset}.parquet"
