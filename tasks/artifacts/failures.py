"""What lies beside a partition that is not finished: why its step failed, and which rows of it may be kept.

`part-<nnnnn>.failure` tells the last error of the step; `part-<nnnnn>.retry` is the receipt of a table whose sound rows
are kept when the partition is made again. Neither decides whether a partition is finished: that is its receipt's word.
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
    """The error of a step; `where` is the file and line that raised, `own` whether it is one of ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str
    where: str
    own: bool


def note_failure(store: Store, address: Address, error: Exception) -> None:
    """Keep why a step failed, for `tailforge status`; a store that cannot be written has no say in the error."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno}" if frames else ""
    failure = Failure(error=f"{type(error).__name__}: {error}", where=where, own=isinstance(error, TailforgeError))
    with suppress(TailforgeError):
        store.write_bytes(_beside(address.uri, "failure"), failure.model_dump_json().encode())


def read_failure(store: Store, address: Address) -> Failure | None:
    """Why a missing step failed when it was last tried; None if it was not tried."""
    try:
        return Failure.model_validate_json(store.read(_beside(address.uri, "failure")))
    except (FileNotFoundError, ValueError):
        return None


def forget(store: Store, receipt: Receipt) -> None:
    """Remove a finished partition, so that the next build makes it again."""
    store.remove(receipt_uri(receipt.uri))  # the receipt first: without it the file is nothing
    for uri in (receipt.uri, _beside(receipt.uri, "retry"), _beside(receipt.uri, "failure")):
        store.remove(uri)


def retry_failed_rows(store: Store, receipt: Receipt) -> None:
    """Let the next build make the failed rows of a partition again and keep the others as they are."""
    store.write_bytes(_beside(receipt.uri, "retry"), receipt.model_dump_json().encode())
    store.remove(receipt_uri(receipt.uri))


def read_kept(store: Store, address: Address) -> dict[str, Row]:
    """The sound rows, by sample_id, of a partition of which the failed ones are to be made again; else none."""
    try:
        receipt = Receipt.model_validate_json(store.read(_beside(address.uri, "retry")))
        if hashlib.sha256(store.read(receipt.uri)).hexdigest() != receipt.sha256:
            return {}
    except (FileNotFoundError, ValueError):
        return {}
    table = read_table(store, receipt)
    return {row["sample_id"]: row for row in table.filter(pc.equal(table["status"], "ok")).to_pylist()}


def end_retry(store: Store, address: Address) -> None:
    """The partition is finished: nothing of it is tried again."""
    store.remove(_beside(address.uri, "retry"))


def _beside(uri: str, suffix: str) -> str:
    return f"{uri.rsplit('.', 1)[0]}.{suffix}"
