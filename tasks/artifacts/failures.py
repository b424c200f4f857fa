"""Keep the error and the partial results of an unfinished partition.

`part-<nnnnn>.failure` holds the last error of the step. `part-<nnnnn>.retry` is the receipt of an earlier table: when
the partition is made again, its rows without failure stay. The receipt alone decides whether a partition is finished.
"""

import hashlib
import re
import traceback
from contextlib import suppress

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from tailforge.catalog.store import Store
from tailforge.schemas.errors import TailforgeError
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.contract import Address, read_table, receipt_uri

LABEL = re.compile(r"^(?P<concept>.+) r(?P<round>\d+) (?P<source>\S+) #(?P<part>\d+)$")
Row = dict[str, object]


class Failure(BaseModel):
    """The error of a step. `where`: the file and line that raised it. `own`: it is a TailforgeError."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str
    where: str
    own: bool


def note_failure(store: Store, address: Address, error: Exception) -> None:
    """Write a step's error for `tailforge status`. A store that cannot be written does not hide the error."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno}" if frames else ""
    failure = Failure(error=f"{type(error).__name__}: {error}", where=where, own=isinstance(error, TailforgeError))
    with suppress(TailforgeError):
        store.write_bytes(_beside(address.uri, "failure"), failure.model_dump_json().encode())


def read_failure(store: Store, address: Address) -> Failure | None:
    """Return the error of the last try of a missing step; None if it was not tried."""
    try:
        return Failure.model_validate_json(store.read(_beside(address.uri, "failure")))
    except (FileNotFoundError, ValueError):
        return None


def forget(store: Store, receipt: Receipt) -> None:
    """Remove a finished partition, so that the next build makes it again. Errors: StoreError."""
    store.remove(receipt_uri(receipt.uri))  # the receipt first: without it no build uses the file
    for uri in (receipt.uri, _beside(receipt.uri, "retry"), _beside(receipt.uri, "failure")):
        store.remove(uri)


def retry_failed_rows(store: Store, receipt: Receipt) -> None:
    """Let the next build make a partition's failed rows again and keep the others. Errors: StoreError."""
    store.write_bytes(_beside(receipt.uri, "retry"), receipt.model_dump_json().encode())
    store.remove(receipt_uri(receipt.uri))


def read_kept(store: Store, address: Address) -> dict[str, Row]:
    """Return the rows to keep of a partition whose failed rows are made again, by sample_id. Errors: StoreError."""
    try:
        receipt = Receipt.model_validate_json(store.read(_beside(address.uri, "retry")))
        if hashlib.sha256(store.read(receipt.uri)).hexdigest() != receipt.sha256:
            return {}
    except (FileNotFoundError, ValueError):
        return {}
    table = read_table(store, receipt)
    return {row["sample_id"]: row for row in table.filter(pc.equal(table["status"], "ok")).to_pylist()}


def end_retry(store: Store, address: Address) -> None:
    """Remove the record of rows to keep, because the partition is finished. Errors: StoreError."""
    store.remove(_beside(address.uri, "retry"))


def _beside(uri: str, suffix: str) -> str:
    """Return the path of a partition's file with another suffix."""
    return f"{uri.rsplit('.', 1)[0]}.{suffix}"
