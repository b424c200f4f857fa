"""Decisions of people on samples of a dataset: `reviews/<dataset>.parquet` in the store, one row (REVIEWS) per sample.

The file outlives versions and builds, and the next build of the dataset applies it. A writer replaces the whole file
under a lock, so several pages may be open at the same time. The latest decision on a sample counts.
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
    """Return all decisions on a dataset by sample_id, in sorted order. Errors: StoreAccessError for a damaged file."""
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
    """Return the decisions without reviewer, time and reason, which have no effect on a version.

    Errors: StoreAccessError for a damaged file.
    """
    found = read_decisions(store, dataset).values()
    return tuple(Review(sample_id=each.sample_id, image=each.image, decision=each.decision) for each in found)


def record_decision(store: Store, dataset: str, decision: Decision) -> None:
    """Record a decision for the next build, in place of an earlier one on the sample. Errors: StoreAccessError."""
    _change(store, dataset, lambda known: {**known, decision.sample_id: decision})


def forget_decision(store: Store, dataset: str, sample_id: str) -> None:
    """Remove the decision on a sample, if there is one, so that the gates decide. Errors: StoreAccessError."""
    _change(store, dataset, lambda known: {name: each for name, each in known.items() if name != sample_id})


def _change(store: Store, dataset: str, change: Callable[[Decisions], Decisions]) -> None:
    """Replace the file of decisions under the lock. Errors: StoreAccessError, StoreError."""
    with _lock(store, dataset):
        changed = change(read_decisions(store, dataset))
        rows = [changed[sample_id].model_dump() for sample_id in sorted(changed)]
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, REVIEWS), out, compression="zstd")
        store.write_bytes(_path(dataset), out.getvalue())


@contextmanager
def _lock(store: Store, dataset: str) -> Iterator[None]:
    """Hold the lock of one writer among all processes. The system releases it when a process ends.

    Errors: StoreAccessError for a store that is not on a local disk.
    """
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
    """Return the path of a dataset's decisions, relative to the store."""
    return f"{FOLDER}/{dataset}.parquet"
