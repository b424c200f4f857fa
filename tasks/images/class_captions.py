"""Make captions by template for images with a class and no caption: class folders and labelled Parquet files."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tailforge.catalog.images.columns import read_classes, read_texts
from tailforge.catalog.pictures import SUFFIXES
from tailforge.schemas.documents.shown import show
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.settings.fields import look
from tailforge.schemas.training.generator import CLASS
from tailforge.tasks.images.labelled import tidy_classes

DEFAULT = f"a photo of a {CLASS}"
TEXTS = ("caption", "text")  # columns of captions; the first existing one counts
DIVIDED = ("train", "test")  # sibling folders; training uses only the first


def fill(template: str, name: str) -> str:
    """Return the caption of a class; underscores of folder names become spaces."""
    return template.replace(CLASS, name.replace("_", " ").strip())


def caption_classes(labels: Sequence[str | None], template: str, origin: str) -> list[str | None]:
    """Return a caption per label, None for a missing label.

    Errors: ImagesError for two classes with similar names or the same caption.
    """
    names = tidy_classes(labels, origin)
    seen: dict[str, str] = {}
    for name in dict.fromkeys(each for each in names if each is not None):
        caption = look(fill(template, name))
        if (other := seen.setdefault(caption, name)) != name:
            raise ImagesError(
                f"{origin}: the classes {show(other)} and {show(name)} would have one caption, "
                f"{show(fill(template, name))}; give both one name, or names that differ in more than that"
            )
    return [None if name is None else fill(template, name) for name in names]


def find_class_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the folder with one subfolder per class; None if an image has no class. `names`: images below `folder`.

    It is `folder`, or its train if there is a test beside it, as for labelled images.
    """
    divided = all((folder / name).is_dir() for name in DIVIDED)
    below = [Path(name).parts[:-1] for name in names]
    if divided and all(len(parts) > 1 and parts[0] in DIVIDED for parts in below):
        return folder / DIVIDED[0]
    return None if divided or not all(below) else folder


def caption_rows(file: Path, table: pa.Table, rows: Sequence[int], template: str | None) -> list[str | None]:
    """Return captions of a Parquet file's rows: their own, else `template` with their label, else None.

    Errors: ImagesError for columns of the wrong type, and those of `caption_classes`.
    """
    told = next((name for name in TEXTS if name in table.column_names), None)
    texts: list[str | None] = read_texts(file, table, told) if told else [None] * table.num_rows
    own = [texts[row] for row in rows]
    if template is None or "label" not in table.column_names or all(each is not None for each in own):
        return own
    labels = read_classes(file, table, "label")
    needed = [labels[row] if caption is None else None for row, caption in zip(rows, own, strict=True)]
    made = caption_classes(needed, template, str(file))
    return [by_class if caption is None else caption for caption, by_class in zip(own, made, strict=True)]


HINT = (
    "write it to a file of the same name with suffix .txt, to metadata.jsonl "
    '({"file_name": ..., "text": ...}) or to a column caption of the Parquet file; or set images.caption for all '
    f"images without one; or make one folder per class with images ({', '.join(SUFFIXES)}) and no captions, and "
    "images.class_caption makes them"
)
