"""Read Parquet files of unknown origin from a store: tables of versions and artifacts of stages.

All errors of Arrow about damaged bytes become VerificationError. catalog/reading/version.py checks values that become
paths, positions in a file or classes.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from tailforge.catalog.store import Store, storage_errors
from tailforge.schemas.dataset import FileEntry
from tailforge.schemas.documents.foreign_json import describe_damage
from tailforge.schemas.errors import VerificationError

LOOK = "fetch it again, or run `tailforge verify` to see what else is wrong"


@contextmanager
def damage_errors(origin: str) -> Iterator[None]:
    """Translate errors inside the context.

    Errors: VerificationError for a missing file and bytes that Arrow cannot read; others as `storage_errors`.
    """
    try:
        with storage_errors("read", origin):
            try:
                yield
            except OSError as error:
                if error.errno is not None:
                    raise
                raise _damaged(origin, error) from error  # Arrow's own: checksums, codecs, a broken footer
            except (pa.ArrowException, UnicodeDecodeError) as error:
                raise _damaged(origin, error) from error
    except FileNotFoundError as error:
        raise VerificationError(f"{origin} is missing; {LOOK}") from error


@contextmanager
def open_parquet(
    store: Store, path: str, entry: FileEntry | None = None, *, in_ranges: bool = False
) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file whose pages are checked on reading. `entry`: expected digest of the whole file.

    `in_ranges`: do not read ahead, for callers that read parts. Arrow knows the ranges that it needs. Errors: as
    `damage_errors`, also inside the context.
    """
    origin = f"{store.uri}/{path}"
    with (
        damage_errors(origin),
        store.open_read(path, **({"read_ahead": 0} if in_ranges else {})) as file,
    ):
        if entry is not None:
            _require_bytes(file, entry, origin)
        yield pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=in_ranges)


def read_columns(store: Store, path: str, columns: Iterable[str]) -> pa.Table:
    """Return those of the columns that the file has. Errors: VerificationError if it is gone or damaged; StoreError."""
    with open_parquet(store, path) as parquet:
        known = parquet.schema_arrow.names
        table = parquet.read([name for name in columns if name in known], use_threads=False)
        table.validate(full=True)
        return table


def _require_bytes(file: IO[bytes], entry: FileEntry, origin: str) -> None:
    """Compare a file's sha256 with its entry in dataset.json. Errors: VerificationError."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if digest != entry.sha256:
        raise VerificationError(f"{origin} has sha256 {digest}, dataset.json says {entry.sha256}; {LOOK}")
    file.seek(0)


def _damaged(origin: str, error: Exception) -> VerificationError:
    """Return the error for a file that cannot be read."""
    return VerificationError(f"{origin} cannot be read: {describe_damage(error)}; {LOOK}")
