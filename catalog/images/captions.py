"""Read what is written about the images of a folder: texts beside them, and metadata files of `datasets`."""

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tailforge.catalog.images.files import Listing, require_inside
from tailforge.catalog.pictures import SUFFIXES
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ImagesError

METADATA = "metadata.jsonl"
METADATA_FILES = (METADATA, "metadata.csv")
ALIASES = {
    "caption": ("text", "caption"),
    "label": ("label",),
    "split": ("split",),
    "group": ("group",),
    "mask": ("mask_file_name", "mask"),
}
NEEDED = "file_name and text"


@dataclass(frozen=True)
class Told:
    """What is told of images by their name: values by column. `files` are the names of the texts beside images."""

    rows: Mapping[str, Mapping[str, str]]
    names: Sequence[str]
    files: frozenset[str]

    def without(self, names: Collection[str]) -> "Told":
        """Return the same for the other images."""
        return replace(self, names=[name for name in self.names if name not in names])

    def column(self, name: str, default: Sequence[str | None] | None) -> list[str | None] | None:
        """Return a column in the order of the images, with `default` for missing values; None without any value."""
        own = [self.rows.get(image, {}).get(name) for image in self.names]
        if not any(value is not None for value in own):
            return None if default is None else list(default)
        if default is None:
            return own
        return [other if value is None else value for value, other in zip(own, default, strict=True)]


def read_captions(listing: Listing, names: Sequence[str], folders: Sequence[str]) -> Told:
    """Return what texts and metadata files tell of the images `names`.

    A metadata file is in the folder or in one of `folders` directly below, and names images relative to itself.
    Errors: ImagesError for a file that cannot be read, names an unknown image or repeats one, for an empty caption,
    and for two different captions of one image.
    """
    images, others = set(names), set(listing.others)
    rows: dict[str, dict[str, str]] = {}
    for inner in ("", *(f"{name}/" for name in folders)):
        for name in METADATA_FILES:
            if inner + name in others:
                _read_metadata(listing, inner, name, images, rows)

    files = set()
    for image in names:
        beside = f"{image.rpartition('.')[0]}.txt"
        if beside in others:
            files.add(beside)
            _add_caption(listing, image, beside, rows.setdefault(image, {}))
    return Told(rows, names, frozenset(files))


def _add_caption(listing: Listing, image: str, beside: str, row: dict[str, str]) -> None:
    """Add the text beside an image. Errors: ImagesError if metadata tell another."""
    caption = _read_text(listing.folder / beside, listing.root)
    told = row.setdefault("caption", caption)
    if told.strip() != caption.strip():
        raise ImagesError(
            f"{listing.folder / image} has one caption in {METADATA} and another in {Path(beside).name}; leave one"
        )


def _read_text(file: Path, root: Path) -> str:
    """Return the text of a file. Errors: ImagesError."""
    require_inside(file, root)
    try:
        return file.read_text(encoding="utf-8-sig")  # Windows editors begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise ImagesError(
            f"{file} cannot be read as a caption: {describe_failure(error)}; write it in UTF-8"
        ) from error


def _read_metadata(listing: Listing, inner: str, name: str, images: set[str], rows: dict[str, dict[str, str]]) -> None:
    """Add the rows of a metadata file. Errors: ImagesError for a repeated or unknown name."""
    file = listing.folder / inner / name
    text = _read_text(file, listing.root)
    entries = _read_lines(text, file) if name == METADATA else _read_csv(text, file)
    seen: set[str] = set()

    for place, image, values in entries:
        if image in seen:
            raise ImagesError(f"{place} names {image} a second time; leave one of the two")
        seen.add(image)
        if inner + image not in images:
            raise ImagesError(
                f"{place} names {image}, which is no image in the folder ({', '.join(SUFFIXES)}); add the image or "
                "remove the line"
            )
        if "caption" in values and not values["caption"].strip():
            raise ImagesError(f"{place}: {image} has an empty caption; write what the image shows, or remove the image")
        if "mask" in values:
            values["mask"] = inner + values["mask"]
        rows.setdefault(inner + image, {}).update(values)


def _read_lines(text: str, file: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield place, image and values of each line. Errors: ImagesError."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{file} line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ImagesError(f"{place} is not JSON: {error}; each line is one object with {NEEDED}") from error
        yield place, *_take_values(entry, place)


def _read_csv(text: str, file: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield place, image and values of each row. Errors: ImagesError."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for entry in reader:
            told = {key: value for key, value in entry.items() if isinstance(value, str) and value}
            yield f"{file} line {reader.line_num}", *_take_values(told, f"{file} line {reader.line_num}")
    except csv.Error as error:
        raise ImagesError(f"{file} cannot be read as CSV: {error}; write it again") from error


def _take_values(entry: Any, place: str) -> tuple[str, dict[str, str]]:
    """Return the image and the values that a metadata file tells of it. Errors: ImagesError."""
    name = entry.get("file_name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise ImagesError(f"{place} has no file_name or no text; each line is one object with both, as texts")
    values: dict[str, str] = {}
    for column, keys in ALIASES.items():
        found = next((entry[key] for key in keys if key in entry), None)
        if isinstance(found, int) and not isinstance(found, bool) and column != "caption":
            found = str(found)
        if isinstance(found, str):
            values[column] = found
    if not values and {"file_name", *(key for keys in ALIASES.values() for key in keys)} >= set(entry):
        raise ImagesError(f"{place} has no file_name or no text; each line is one object with both, as texts")
    return name, values
