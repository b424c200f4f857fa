"""Read the bytes of image files by their number: from files, Arrow tables, Parquet files and chains of these."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tailforge.catalog.images.cursor import Cursor
from tailforge.catalog.images.files import read_image_file
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ImagesError

BATCH = 32  # rows of a Parquet file in memory at a time; our choice


class Pixels(Protocol):
    """The image files of a source, by number."""

    def read(self, row: int) -> bytes:
        """Return the bytes of one file. Errors: ImagesError."""

    def stream(self, rows: Iterable[int]) -> Iterator[bytes]:
        """Yield the bytes of several files; rising numbers cost one pass. Errors: ImagesError."""

    def file_of(self, row: int) -> str | None:
        """Return the path of one file; None for bytes in a table, a tar or a version."""


class EachAlone:
    """Streams by single reads. `files`: the paths, if the images are files of their own."""

    def __init__(self, read: Callable[[int], bytes], files: Sequence[str] | None = None) -> None:
        self.read = read
        self._files = files

    def file_of(self, row: int) -> str | None:
        """Return the path of one file; None for other bytes."""
        return None if self._files is None else self._files[row]

    def stream(self, rows: Iterable[int]) -> Iterator[bytes]:
        """Yield the bytes of several files. Errors: ImagesError."""
        return (self.read(int(row)) for row in rows)


def file_pixels(files: Sequence[str]) -> EachAlone:
    """Return the bytes of image files by their paths."""
    return EachAlone(lambda row: read_image_file(files[row]), files)


def column_pixels(column: pa.ChunkedArray) -> EachAlone:
    """Return the bytes in a column of a table that is in memory or mapped into it."""
    return EachAlone(lambda row: take_image_bytes(column[row].as_py()))


class ParquetPixels:
    """The bytes in a column of a Parquet file, a few rows in memory at a time."""

    def __init__(self, file: Path, column: str) -> None:
        self._file, self._column = file, column
        self._cursor = Cursor(self._from)

    def read(self, row: int) -> bytes:
        """Return the bytes of one row; rows in rising order cost one pass. Errors: ImagesError for a damaged file."""
        return self._cursor.read(row)

    def stream(self, rows: Iterable[int]) -> Iterator[bytes]:
        """Yield the bytes of several rows. Errors: ImagesError for a damaged file."""
        wanted = np.fromiter(rows, np.int64)
        if (np.diff(wanted) < 0).any():
            return (self.read(int(row)) for row in wanted)
        return _stream_parquet(self._file, self._column, wanted)

    def file_of(self, row: int) -> None:
        """Return None: the bytes are in the Parquet file."""

    def _from(self, row: int) -> Iterator[bytes]:
        with _reading(self._file), pq.ParquetFile(self._file) as parquet:
            count = parquet.metadata.num_rows
        return _stream_parquet(self._file, self._column, np.arange(row, count))


class Chain:
    """Several sources, one after the other."""

    def __init__(self, parts: Sequence[tuple[Pixels, int]]) -> None:
        self._parts = [part for part, _ in parts]
        self._starts = np.array([0, *accumulate(count for _, count in parts)], np.int64)

    def read(self, row: int) -> bytes:
        """Return the bytes of one file. Errors: ImagesError."""
        part, own = self._locate(row)
        return part.read(own)

    def file_of(self, row: int) -> str | None:
        """Return the path of one file; None for other bytes."""
        part, own = self._locate(row)
        return part.file_of(own)

    def stream(self, rows: Iterable[int]) -> Iterator[bytes]:
        """Yield the bytes of several files. Errors: ImagesError."""
        wanted = np.fromiter(rows, np.int64)
        owners = np.searchsorted(self._starts, wanted, side="right") - 1
        cuts = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(wanted)]
        for start, stop in pairwise(cuts):
            if start < stop:
                part = int(owners[start])
                yield from self._parts[part].stream(wanted[start:stop] - self._starts[part])

    def _locate(self, row: int) -> tuple[Pixels, int]:
        """Return the source of a row, and its number in it."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part], row - int(self._starts[part])


def take_image_bytes(value: Any) -> bytes:
    """Return the bytes of a value of an image column; empty for null."""
    found = value["bytes"] if isinstance(value, dict) else value
    return found or b""


def _stream_parquet(file: Path, column: str, wanted: Any) -> Iterator[bytes]:
    """Yield the images of rising rows, reading a few rows at a time from the row groups that hold one."""
    with _reading(file), pq.ParquetFile(file) as parquet:
        start = 0
        for group in range(parquet.num_row_groups):
            end = start + parquet.metadata.row_group(group).num_rows
            if np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
                for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=[column], use_threads=False):
                    low, high = np.searchsorted(wanted, (start, start + len(batch)))
                    for row in wanted[low:high]:
                        yield take_image_bytes(batch.column(0)[int(row) - start].as_py())
                    start += len(batch)
            start = end


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn Arrow's errors about a damaged Parquet file into ImagesError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ImagesError(f"{file} cannot be read as Parquet: {describe_failure(error)}; copy it again") from error
