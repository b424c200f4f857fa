"""Write photographs as a table that every command reads: path or bytes, label, split and group."""

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from tailforge.catalog.images.records import Images
from tailforge.schemas.documents.shown import visible
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.under_way import count

STEM = "photographs"
WRITTEN_AT_ONCE = 256  # photographs in memory


def find_root(images: Images, source: Path) -> Path | None:
    """Return the folder that holds all photographs; None for bytes in a table, a tar or a version.

    It is the folder `source`, if all are in it, else the deepest folder with all of them.
    """
    files = [images.file_of(place) for place in range(len(images))]
    if None in files:
        return None
    common = Path(os.path.commonpath({os.path.abspath(os.path.dirname(str(each))) for each in files}))
    whole = source.absolute()
    return whole if source.is_dir() and common.is_relative_to(whole) else common


def write_table(
    folder: Path,
    images: Images,
    root: Path | None,
    labels: Sequence[str],
    splits: Sequence[str],
    groups: Sequence[str | None],
) -> Path:
    """Write the table of the photographs into a folder and return its path.

    Photographs that are files: photographs.csv with their paths relative to `root`. Others: photographs.parquet with
    their bytes. `label` is the concept's name, `class` the name in the source. Errors: ImagesError.
    """
    told = {"label": labels, "split": splits, "group": groups, "class": images.labels_as_found}
    columns = {name: pa.array(values, pa.string()) for name, values in told.items()}
    if root is None:
        return _write_bytes(folder / f"{STEM}.parquet", images, columns)

    files = (str(images.file_of(place)) for place in range(len(images)))
    paths = [_require_text(os.path.relpath(os.path.abspath(file), root)) for file in files]
    target = folder / f"{STEM}.csv"
    pc.write_csv(pa.table({"path": pa.array(paths, pa.string()), **columns}), target)
    return target


def _require_text(path: str) -> str:
    """Return the path. Errors: ImagesError for one that is no UTF-8, which no table can hold."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ImagesError(
            f"the file name {visible(path)} is no UTF-8, so no table can hold it; rename the file"
        ) from error
    return path


def _write_bytes(target: Path, images: Images, columns: dict[str, pa.Array]) -> Path:
    """Write the bytes of the photographs, some at a time."""
    schema = pa.schema([("image", pa.binary()), *((name, pa.string()) for name in columns)])
    with pq.ParquetWriter(target, schema) as writer:
        data = count(images.stream(), "photograph written", images)
        for start in range(0, len(images), WRITTEN_AT_ONCE):
            rows = slice(start, min(start + WRITTEN_AT_ONCE, len(images)))
            some = [next(data) for _ in range(rows.start, rows.stop)]
            parts = [column[rows] for column in columns.values()]
            writer.write_table(pa.Table.from_arrays([pa.array(some, pa.binary()), *parts], schema=schema))
    return target
