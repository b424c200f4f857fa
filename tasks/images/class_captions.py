"""Make captions by template for images with a class and no caption."""

from collections.abc import Sequence

from tailforge.catalog.images.records import tidy_classes
from tailforge.catalog.pictures import SUFFIXES
from tailforge.schemas.documents.shown import show
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.settings.fields import look
from tailforge.schemas.training.generator import CLASS

DEFAULT = f"a photo of a {CLASS}"
Captions = Sequence[str | None]


def fill(template: str, name: str) -> str:
    """Return the caption of a class; underscores of folder names become spaces."""
    return template.replace(CLASS, name.replace("_", " ").strip())


def caption_classes(labels: Captions, template: str, origin: str) -> list[str | None]:
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


def caption_by_class(own: Captions, labels: Captions, template: str, origin: str) -> list[str | None]:
    """Return a caption per image: its own, else `template` with its label, else None. Errors: as `caption_classes`."""
    needed = [label if caption is None else None for caption, label in zip(own, labels, strict=True)]
    made = caption_classes(needed, template, origin)
    return [by_class if caption is None else caption for caption, by_class in zip(own, made, strict=True)]


HINT = (
    "write it to a file of the same name with suffix .txt, to metadata.jsonl "
    '({"file_name": ..., "text": ...}) or to a column caption of the Parquet file; or set images.caption for all '
    f"images without one; or make one folder per class with images ({', '.join(SUFFIXES)}) and no captions, and "
    "images.class_caption makes them"
)
