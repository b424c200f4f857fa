"""Read folders of the library `datasets`: saved Arrow tables, and Parquet files as the Hub holds them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tailforge.catalog.images.files import Listing, Places
from tailforge.catalog.images.joining import Part, join_parts
from tailforge.catalog.images.left_out import Counter
from tailforge.catalog.images.records import Found
from tailforge.catalog.images.splits import find_split, find_split_of_file
from tailforge.catalog.images.tables import Columns, read_arrow, read_parquet, table_errors
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.errors import ImagesError

SAVED, INFO, SAVED_SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    """Return whether `save_to_disk` wrote a folder."""
    return (folder / SAVED_SPLITS).is_file() or ((folder / SAVED).is_file() and (folder / INFO).is_file())


def read_saved(folder: Path, columns: Columns, left_out: Counter) -> tuple[Found, NDArray[np.int64]]:
    """Return the images of a folder that `save_to_disk` wrote: one table, or one per split.

    Errors: ImagesError for a folder that lacks a file or has no images.
    """
    if not (folder / SAVED_SPLITS).is_file():
        return read_arrow(_open_tables(folder), folder, columns, left_out)
    splits = _read_list(folder / SAVED_SPLITS, "splits")
    if not splits:
        raise ImagesError(f"{folder / SAVED_SPLITS} names no split; save the dataset again")

    parts = []
    for split in splits:
        inner = folder / split
        if Path(split).name != split or not inner.is_dir():
            raise ImagesError(f"{folder} has no folder of split {split!r}; save the dataset again")
        parts.append(Part(split, *read_arrow(_open_tables(inner), inner, columns, left_out), split=split))
    return join_parts(str(folder), parts)


def find_parquet(listing: Listing) -> list[str]:
    """Return the Parquet files of a folder of the Hub: those in `data`, where it has that folder."""
    files = [name for name in listing.others if name.lower().endswith(".parquet")]
    return [name for name in files if name.startswith("data/")] or files


def read_parquet_files(
    listing: Listing, files: Sequence[str], columns: Columns, left_out: Counter
) -> tuple[Found, NDArray[np.int64]]:
    """Return the images of several Parquet files. A file's split is that of its name, or of its folder's.

    Errors: ImagesError.
    """
    parts = []
    for name in files:
        found, rows = read_parquet(listing.folder / name, columns, None, left_out)
        parts.append(Part(name, found, rows, split_of_path(name)))
    return join_parts(str(listing.folder), parts)


def split_of_path(name: str) -> str | None:
    """Return the split that a file's name or its folders' names mean, the nearest first."""
    *folders, file = name.split("/")
    return find_split_of_file(file) or next((split for each in reversed(folders) if (split := find_split(each))), None)


def _open_tables(folder: Path) -> pa.Table:
    """Return the table that is saved in a folder, mapped into memory. Errors: ImagesError."""
    files = _read_list(folder / SAVED, "_data_files")
    tables, places = [], Places(folder)
    for name in files:
        path, reason = places.locate(name)
        if reason is not None:
            raise ImagesError(
                f"{folder / SAVED} names {name!r}, which is no file in the folder; save the dataset again"
            )
        with table_errors(Path(path), "Arrow"):
            table = pa.ipc.open_stream(pa.memory_map(path)).read_all()
            table.validate(full=True)  # Arrow trusts offsets, and reads outside of the file by damaged ones
            tables.append(table)
    if not tables:
        raise ImagesError(f"{folder / SAVED} names no file; save the dataset again")
    with table_errors(folder, "Arrow"):
        return pa.concat_tables(tables)


def _read_list(file: Path, key: str) -> list[str]:
    """Return the names in a list of a JSON file of `datasets`. Errors: ImagesError."""
    try:
        entries = parse_object(file.read_bytes())[key]
        names = [each["filename"] if isinstance(each, dict) else each for each in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImagesError(f"{file} cannot be read: {describe_damage(error)}; save the dataset again") from error
    if not all(isinstance(name, str) for name in names):
        raise ImagesError(f"{file} holds a list {key} of other things than names; save the dataset again")
    return names
