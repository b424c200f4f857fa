"""Read WebDataset tars: files of one name before the first dot are one sample."""

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.left_out import OTHER, UNPICTURED, Counter
from tailforge.catalog.images.masks import decode_user_mask
from tailforge.catalog.images.pixels import EachAlone
from tailforge.catalog.images.records import Found
from tailforge.catalog.pictures import SUFFIXES
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.errors import ImagesError

NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)")  # as webdataset cuts names: key and extension
CAPTIONS, CLASSES, MASKS = ("txt", "caption", "caption.txt"), ("cls", "label", "label.txt"), ("seg.png", "mask.png")
TOLD = ("label", "split", "group", "caption")  # keys of a sample's JSON
MOST_TEXT = 2**20  # bytes of a text or a JSON


@dataclass(frozen=True)
class Span:
    """Where a member's bytes are in the tar."""

    name: str
    offset: int
    size: int


def read_tar(file: Path, left_out: Counter) -> tuple[Found, NDArray[np.int64]]:
    """Return the images of a tar without decoding one.

    Extensions: an image (png, jpg, ...), cls or label, txt or caption, seg.png or mask.png, json with label, caption,
    split and group. Errors: ImagesError for a file that is no plain tar, a repeated member, or an unreadable text.
    """
    samples = _index(file, left_out)
    keys = [key for key, members in samples.items() if _find_image(members)]
    for key in samples.keys() - set(keys):
        left_out.add(UNPICTURED, f"{file}: {key}")
    if not keys:
        raise ImagesError(f"{file} holds no image; give a tar with samples such as 000.jpg and 000.cls")

    images = [span for key in keys if (span := _find_image(samples[key]))]
    told = [_read_texts(file, samples[key]) for key in keys]
    masks = [next((samples[key][name] for name in MASKS if name in samples[key]), None) for key in keys]

    def read_mask(row: int) -> NDArray[np.uint8] | None:
        """Return the mask of a sample."""
        span = masks[row]
        return None if span is None else decode_user_mask(_read(file, span), f"{file}: {span.name}")

    columns = {what: [each.get(what) for each in told] for what in TOLD}
    return Found(
        kind="tar",
        origin=str(file),
        ids=keys,
        places=[f"{file}: {span.name}" for span in images],
        pixels=EachAlone(lambda row: _read(file, images[row])),
        labels=_or_none(columns["label"]),
        splits=_or_none(columns["split"]),
        groups=_or_none(columns["group"]),
        captions=_or_none(columns["caption"]),
        absent={"label": f"{file} holds no labels; add a member such as 000.cls to each sample"},
        mask=read_mask,
    ), np.arange(len(keys))


def _or_none(column: list[str | None]) -> list[str | None] | None:
    return column if any(value is not None for value in column) else None


def _index(file: Path, left_out: Counter) -> dict[str, dict[str, Span]]:
    """Return the members per sample and extension. Errors: ImagesError."""
    samples: dict[str, dict[str, Span]] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                found = NAME.fullmatch(member.name)
                if not member.isreg() or member.issparse() or not found or "/." in f"/{member.name}":
                    if not member.isdir():
                        left_out.add(OTHER, f"{file}: {member.name}")
                    continue
                members = samples.setdefault(found[1], {})
                if members.setdefault(found[2].lower(), span := _span(member)) != span:
                    raise ImagesError(f"{file} holds {member.name} twice; write the tar again")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise ImagesError(
            f"{file} cannot be read as a tar: {describe_damage(error)}; give a plain, uncompressed tar"
        ) from error
    return samples


def _span(member: tarfile.TarInfo) -> Span:
    return Span(member.name, member.offset_data, member.size)


def _find_image(members: Mapping[str, Span]) -> Span | None:
    return next((span for extension, span in members.items() if f".{extension}" in SUFFIXES), None)


def _read(file: Path, span: Span) -> bytes:
    """Return the bytes of a member. Errors: ImagesError."""
    try:
        with open(file, "rb") as content:
            content.seek(span.offset)
            data = content.read(span.size)
    except OSError as error:
        raise ImagesError(f"{file} cannot be read: {describe_damage(error)}; put it back") from error
    if len(data) < span.size:
        raise ImagesError(f"{file} is cut off in {span.name}; copy it again")
    return data


def _read_texts(file: Path, members: Mapping[str, Span]) -> dict[str, str]:
    """Return label, split, group and caption of a sample. Errors: ImagesError."""
    told: dict[str, str] = {}
    if "json" in members:
        told |= dict(_read_json(file, members["json"]))
    for what, extensions in (("label", CLASSES), ("caption", CAPTIONS)):
        for span in [members[each] for each in extensions if each in members][:1]:
            text = _decode(file, span).strip()
            if text:
                told[what] = text
    return told


def _read_json(file: Path, span: Span) -> Iterator[tuple[str, str]]:
    try:
        document = parse_object(_decode(file, span))
    except ValueError as error:
        raise ImagesError(f"{file}: {span.name} cannot be read as JSON: {describe_damage(error)}; mend it") from error
    for what in TOLD:
        value = document.get(what)
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            yield what, str(value)


def _decode(file: Path, span: Span) -> str:
    if span.size > MOST_TEXT:
        raise ImagesError(f"{file}: {span.name} has {span.size:,} bytes; a text has {MOST_TEXT:,} at most")
    try:
        return _read(file, span).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImagesError(f"{file}: {span.name} is no text in UTF-8; write it again") from error
