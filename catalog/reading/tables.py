"""Reading Parquet files of a store, which others may have written or damaged: versions' tables and stages' artifacts.

Whatever Arrow raises on damaged bytes becomes a VerificationError. Values that become paths, places in a file or
classes are checked by catalog/reading/version.py.
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
    """Errors: VerificationError for what Arrow cannot read; errors of the operating system as `storage_errors`."""
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
    """A Parquet file, its pages checked while they are read; `entry` is what the whole file must be.

    `in_ranges`: for who reads parts of it, without reading ahead, since Arrow knows which ranges it needs.
    Errors: as `damage_errors`, also from inside the block.
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
    """Those of the columns that the file has. Errors: VerificationError where it is gone or damaged; StoreError."""
    with open_parquet(store, path) as parquet:
        known = parquet.schema_arrow.names
        table = parquet.read([name for name in columns if name in known], use_threads=False)
        table.validate(full=True)
        return table


def _require_bytes(file: IO[bytes], entry: FileEntry, origin: str) -> None:
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if digest != entry.sha256:
        raise VerificationError(f"{origin} has sha256 {digest}, dataset.json says {entry.sha256}; {LOOK}")
    file.seek(0)


def _damaged(origin: str, error: Exception) -> VerificationError:
    return VerificationError(f"{origin} cannot be read: {describe_damage(error)}; {LOOK}")
