"""Read tables of images: CSV, Parquet and Arrow, with the images' bytes or paths in a column."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailforge.catalog.images.columns import holds_paths, read_classes, read_mask_names, read_texts, require_complete
from tailforge.catalog.images.files import Places
from tailforge.catalog.images.left_out import NO_FILE, Counter
from tailforge.catalog.images.masks import decode_user_mask, read_mask_file
from tailforge.catalog.images.pixels import ParquetPixels, Pixels, column_pixels, file_pixels
from tailforge.catalog.images.records import Column, Found
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.settings.annotation import Category

GIVE = "give a table with a column image (bytes or paths of image files), or a folder of images"
SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; None means the usual name, where the table has it."""

    image: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    caption: str | None = None
    mask: str | None = None
    id: str | None = None


USUAL = {
    "image": ("image", "file_name", "filename", "image_path", "path", "file"),
    "label": ("label",),
    "split": ("split",),
    "group": ("group",),
    "caption": ("caption", "text"),
    "mask": ("mask",),
    "id": ("id", "sample_id"),
}


@dataclass(frozen=True)
class Table:
    """A table and how its columns of bytes are read. `columns`: names by meaning; `told`: the small columns."""

    file: Path
    told: pa.Table
    schema: pa.Schema
    columns: dict[str, str]
    bytes_of: Callable[[str], Pixels]


def read_parquet(file: Path, columns: Columns, root: Path | None, left_out: Counter) -> tuple[Found, NDArray[np.int64]]:
    """Return the images of a Parquet file, and the rows that can be used. Errors: ImagesError."""
    with table_errors(file, "Parquet"), pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        names = choose_columns(file, schema, columns)
        small = [name for what, name in names.items() if not _is_bytes(file, schema, what, name)]
        told = parquet.read(small, use_threads=False)
        told.validate(full=True)
        if not small:  # without columns Arrow counts no rows
            told = pa.table({"": pa.nulls(parquet.metadata.num_rows)})
    table = Table(file, told, schema, names, lambda name: ParquetPixels(file, name))
    return read_table(table, root or file.parent, left_out)


def read_csv(file: Path, columns: Columns, root: Path | None, left_out: Counter) -> tuple[Found, NDArray[np.int64]]:
    """Return the images whose paths are in a CSV file, or a TSV file. Every value is a text, and an empty one missing.

    Errors: ImagesError.
    """
    parse = pc.ParseOptions(delimiter=SEPARATORS.get(file.suffix.lower(), ","), newlines_in_values=True)
    with table_errors(file, "CSV"):
        with pc.open_csv(file, parse_options=parse) as reader:
            names = reader.schema.names
        convert = pc.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            quoted_strings_can_be_null=True,
        )
        told = pc.read_csv(file, pc.ReadOptions(use_threads=False), parse, convert)
    found = choose_columns(file, told.schema, columns)
    table = Table(file, told, told.schema, found, lambda name: column_pixels(told[name]))
    return read_table(table, root or file.parent, left_out)


def read_arrow(table: pa.Table, place: Path, columns: Columns, left_out: Counter) -> tuple[Found, NDArray[np.int64]]:
    """Return the images of an Arrow table that is mapped from files in the folder `place`. Errors: ImagesError."""
    names = choose_columns(place, table.schema, columns)
    whole = Table(place, table, table.schema, names, lambda name: column_pixels(table[name]))
    return read_table(whole, place, left_out)


def choose_columns(file: Path, schema: pa.Schema, columns: Columns) -> dict[str, str]:
    """Return the table's columns by meaning. Errors: ImagesError for a missing or a repeated one."""
    has = ", ".join(schema.names)
    if len(set(schema.names)) < len(schema.names):
        raise ImagesError(f"{file} gives two columns one name; it has: {has}; rename one of them")
    chosen: dict[str, str] = {}
    for what in (field.name for field in fields(Columns)):
        named = getattr(columns, what)
        if named is not None and named not in schema.names:
            raise ImagesError(f"{file} has no column {named!r}; it has: {has}")
        name = named or next((each for each in USUAL[what] if each in schema.names), None)
        if name is not None:
            chosen[what] = name
    if "image" not in chosen:
        raise ImagesError(f"{file} has no column 'image'; it has: {has}; {GIVE}")
    return chosen


def read_table(table: Table, root: Path, left_out: Counter) -> tuple[Found, NDArray[np.int64]]:
    """Return the images of a table, and the rows that can be used. `root`: folder that paths are relative to.

    Errors: ImagesError.
    """
    count = len(table.told)
    if not count:
        raise ImagesError(f"{table.file} has no rows; give a file with images")

    places = [f"{table.file}: row {row}" for row in range(count)]
    splits = _read(table, "split", read_classes)
    if splits is not None:
        splits = require_complete(table.file, table.columns["split"], splits, range(count))
    pixels, rows = _find_pixels(table, root, places, left_out)
    has = ", ".join(table.schema.names)
    mask = _find_masks(table, root, places)
    names = read_mask_names(table.file, table.schema) if mask else ()
    found = Found(
        kind="table",
        origin=str(table.file),
        ids=_unique_ids(_read(table, "id", read_classes), count),
        places=places,
        pixels=pixels,
        labels=_read(table, "label", read_classes),
        splits=splits,
        groups=_read(table, "group", read_classes),
        captions=_read(table, "caption", read_texts),
        absent={
            "label": f"{table.file} has no column 'label'; it has: {has}. It needs image (bytes of an image file, or "
            "its path) and label (class name), and may have split"
        },
        categories=tuple(Category(name=name) for name in names),
        mask=mask or (lambda row: None),
    )
    return found, rows


def _read(table: Table, what: str, read: Callable[[Path, pa.Table, str], list[str | None]]) -> Column | None:
    name = table.columns.get(what)
    return None if name is None else read(table.file, table.told, name)


def _unique_ids(ids: Column | None, count: int) -> Sequence[str]:
    """Return the ids of the table if each row has its own, else the numbers of the rows."""
    if ids is not None and len(set(ids)) == count and None not in ids:
        return [str(each) for each in ids]
    return [str(row) for row in range(count)]


def _find_pixels(
    table: Table, root: Path, places: Sequence[str], left_out: Counter
) -> tuple[Pixels, NDArray[np.int64]]:
    """Return how images are read, and the rows that have one."""
    name = table.columns["image"]
    if not holds_paths(table.file, name, table.schema.field(name).type):
        return table.bytes_of(name), np.arange(len(places))

    files, rows = locate_files(table.told[name].to_pylist(), Places(root), places, left_out)
    if not len(rows):
        raise ImagesError(
            f"{table.file}: no file that column {name} names can be used; {left_out.report().first_error()}"
        )
    return file_pixels(files), rows


def locate_files(
    names: Sequence[str | None], folder: Places, places: Sequence[str], left_out: Counter
) -> tuple[list[str], NDArray[np.int64]]:
    """Return the paths of named files, and the rows whose file can be used; the others go to `left_out`."""
    files, rows = [], []
    for row, name in enumerate(names):
        path, reason = folder.locate(name) if name else ("", NO_FILE)
        files.append(path)
        if reason is None:
            rows.append(row)
        else:
            left_out.add(reason, f"{places[row]}: {path}" if path else places[row], str(folder.folder))
    return files, np.array(rows, np.int64)


def _find_masks(table: Table, root: Path, places: Sequence[str]) -> Callable[[int], NDArray[np.uint8] | None] | None:
    """Return how the mask of a row is read; None without a column of masks."""
    name = table.columns.get("mask")
    if name is None:
        return None
    if not holds_paths(table.file, name, table.schema.field(name).type):
        pixels = table.bytes_of(name)

        def decode(row: int) -> NDArray[np.uint8] | None:
            data = pixels.read(row)
            return decode_user_mask(data, f"{places[row]}: {name}") if data else None

        return decode
    files, folder = table.told[name], Places(root)

    def read(row: int) -> NDArray[np.uint8] | None:
        named = files[row].as_py()
        if not named:
            return None
        return read_mask_file(folder.require(named))

    return read


def _is_bytes(file: Path, schema: pa.Schema, what: str, name: str) -> bool:
    return what in ("image", "mask") and not holds_paths(file, name, schema.field(name).type)


@contextmanager
def table_errors(file: Path, kind: str) -> Iterator[None]:
    """Turn Arrow's errors about a file into ImagesError."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ImagesError(f"{file} cannot be read as {kind}: {describe_failure(error)}; {GIVE}") from error
