"""Read columns of users' tables: image files, texts, or numbers with names in the schema's metadata."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError

SHOWN = 8  # rows named in an error
UNLABELLED = -1  # `datasets` writes this number for an unknown class


def read_texts(file: Path | str, table: pa.Table, name: str) -> list[str | None]:
    """Return the texts of a column, None for a missing one. Numbers become their names in the metadata (ClassLabel).

    Errors: ImagesError for a column of another type.
    """
    return _read(file, table, name, numbers=False)


def read_classes(file: Path | str, table: pa.Table, name: str) -> list[str | None]:
    """Return the class names of a column; null, NaN, an empty text, and -1 among named classes become None.

    Whole numbers become their names in the metadata (ClassLabel), without such names their digits.
    Errors: ImagesError for a column of another type.
    """
    return [None if value is None or not value.strip() else value for value in _read(file, table, name, numbers=True)]


def require_complete(file: Path | str, name: str, values: Sequence[str | None], rows: Sequence[int]) -> tuple[str, ...]:
    """Return the values of `rows`, all present. Errors: ImagesError naming the rows without one."""
    missing = [str(row) for row, value in zip(rows, values, strict=True) if value is None]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise ImagesError(
            f"{file}: {'rows' if missing[1:] else 'row'} {', '.join(missing[:SHOWN])}{more} (from 0) "
            f"{'have' if missing[1:] else 'has'} no {name}; add it to each row or remove the row"
        )
    return tuple(value for value in values if value is not None)


def holds_paths(file: Path | str, name: str, kind: pa.DataType) -> bool:
    """Return whether a column of images holds paths, and not bytes. Errors: ImagesError for anything else."""
    if _is_text(kind):
        return True
    if kinds.is_struct(kind):
        if kind.get_field_index("bytes") < 0:
            raise ImagesError(
                f"{file}: column {name} is {kind}, which has no field bytes; it needs bytes of image files, or bytes "
                "in it"
            )
        kind = kind.field("bytes").type
    if not (kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind) or kinds.is_null(kind)):
        raise ImagesError(f"{file}: column {name} holds {kind}; it needs bytes of image files, or their paths")
    return False


def _is_text(kind: pa.DataType) -> bool:
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def _read(file: Path | str, table: pa.Table, name: str, *, numbers: bool) -> list[str | None]:
    """Return the values of a column as texts, None for a missing one. Errors: ImagesError."""
    column, kind = table[name], table.schema.field(name).type
    if kinds.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    values: list[Any] = column.to_pylist()
    if kinds.is_null(kind) or _is_text(kind):
        return values

    if kinds.is_integer(kind):
        names = _read_legend(file, table.schema, name)
        if names is not None:
            return [_name(file, name, row, value, names) for row, value in enumerate(values)]
        if numbers:
            return [None if value is None else str(value) for value in values]
    if kinds.is_floating(kind) and numbers and any(value is None or math.isnan(value) for value in values):
        return [None if value is None or math.isnan(value) else str(value) for value in values]

    wanted = "names, or whole numbers" if numbers else "one text per row"
    raise ImagesError(f"{file}: column {name} holds {kind}; it needs {wanted}")


def _name(file: Path | str, name: str, row: int, value: int | None, names: Sequence[str]) -> str | None:
    """Return the name of a class number; None for a missing one. Errors: ImagesError for a number without a name."""
    if value is None or value == UNLABELLED:
        return None
    if not 0 <= value < len(names):
        raise ImagesError(
            f"{file}: row {row} has {name} {value}, and the file's metadata name {count_of(len(names), 'class')}, 0 to "
            f"{len(names) - 1}; write the file again with the names of all its numbers"
        )
    return names[value]


def _read_legend(file: Path | str, schema: pa.Schema, name: str) -> list[str] | None:
    """Return the names by number from the schema's metadata of `datasets`; None without. Errors: ImagesError."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = told.get("info", {}).get("features", {}).get(name, {})
        names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    except (ValueError, AttributeError, RecursionError) as error:
        raise ImagesError(
            f"{file}: the schema's metadata `huggingface`, which names the classes, cannot be read: {error}; "
            "write the file again"
        ) from error

    if names is not None and not (
        isinstance(names, list) and all(isinstance(each, str) for each in names) and len(set(names)) == len(names)
    ):
        raise ImagesError(f"{file}: the names of column {name} in its metadata are no list of different names")
    return names


def read_mask_names(file: Path | str, schema: pa.Schema) -> tuple[str, ...]:
    """Return the names of the values of masks, value 1 first, from the schema's metadata `mask_classes`, a JSON list.

    Empty without. Errors: ImagesError for anything but different names.
    """
    text = (schema.metadata or {}).get(b"mask_classes")
    if text is None:
        return ()
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImagesError(f"{file}: the schema's metadata `mask_classes` cannot be read: {error}") from error
    if not isinstance(names, list) or not all(isinstance(each, str) and each.strip() for each in names):
        raise ImagesError(f"{file}: the schema's metadata `mask_classes` is no list of names; write value 1 first")
    if len(set(names)) < len(names):
        raise ImagesError(f"{file}: the schema's metadata `mask_classes` names two values alike; give different names")
    return tuple(names)
