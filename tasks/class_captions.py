"""Captions by template for images that come with a class and no caption: class folders, Parquet files with a label."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from catalog.pictures import SUFFIXES
from schemas.generator_training import CLASS
from tasks.parquet_columns import read_classes, read_texts

DEFAULT = f"a photo of a {CLASS}"
TEXTS = ("caption", "text")  # columns that hold captions; the first that is there counts
DIVIDED = ("train", "test")  # folders beside one another of which the first alone is learnt from


def fill(template: str, name: str) -> str:
    """A caption; underscores of folder names are read as spaces."""
    return template.replace(CLASS, name.replace("_", " ").strip())


def find_class_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder that holds one folder a class, None if an image lies in none; `names`: images below `folder`.

    It is `folder`, or its train where there is a test beside it, as for labelled images.
    """
    divided = all((folder / name).is_dir() for name in DIVIDED)
    below = [Path(name).parts[:-1] for name in names]
    if divided and all(len(parts) > 1 and parts[0] in DIVIDED for parts in below):
        return folder / DIVIDED[0]
    return None if divided or not all(below) else folder


def caption_rows(file: Path, table: pa.Table, template: str | None) -> list[str | None]:
    """Captions of a Parquet file's rows: their own, else by `template` from their label; None where there is neither.

    Errors: ImagesError for columns of the wrong kind.
    """
    told = next((name for name in TEXTS if name in table.column_names), None)
    own: list[str | None] = read_texts(file, table, told) if told else [None] * table.num_rows
    if template is None or "label" not in table.column_names or all(each is not None for each in own):
        return own
    labels = read_classes(file, table, "label")
    return [
        caption if caption is not None or label is None else fill(template, label)
        for caption, label in zip(own, labels, strict=True)
    ]


HINT = (
    "write it to a file of the same name with suffix .txt, to metadata.jsonl "
    '({"file_name": ..., "text": ...}) or to a column caption of the Parquet file; or give images.caption, which all '
    f"images without one get; or make one folder a class with images ({', '.join(SUFFIXES)}) in it and no caption, "
    "whose captions images.class_caption makes"
)
