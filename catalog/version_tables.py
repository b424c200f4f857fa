"""Columns of a version's tables, and of other Parquet files in the store that have no receipt at hand."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.store import Store
from schemas.errors import VerificationError


def read_columns(store: Store, path: str, columns: Iterable[str]) -> pa.Table:
    """Those of the columns that the file has. Errors: VerificationError where it is gone or damaged; StoreError."""
    try:
        with store.open_read(path) as file:
            parquet = pq.ParquetFile(file)
            known = parquet.schema_arrow.names
            return parquet.read([name for name in columns if name in known], use_threads=False)
    except (FileNotFoundError, pa.ArrowException) as error:
        raise VerificationError(f"{store.uri}/{path} is damaged: {error}; build the recipe again") from error
