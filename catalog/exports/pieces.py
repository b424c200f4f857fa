"""Pieces of files, which the formats yield in the order of the samples.

A format is a generator of pieces, so neither the format nor the writer holds more than one sample.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from tailforge.catalog.exports.samples import ExportedSample
from tailforge.schemas.dataset import Dataset


@dataclass(frozen=True)
class WholeFile:
    """A file with all its bytes. Paths are relative to the export's folder, with forward slashes."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Line:
    """A line to append to a text file."""

    path: str
    text: str


@dataclass(frozen=True)
class Document:
    """A JSON object with the keys of `head` and the keys `lists`. Each list gets its elements as `Row`."""

    path: str
    head: Mapping[str, Any]
    lists: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """An element to append to a list of an earlier Document."""

    path: str
    list: str
    value: Mapping[str, Any]


@dataclass(frozen=True)
class StreamedFile:
    """A file that the function `write` fills, for content that is too large for memory."""

    path: str
    write: Callable[[IO[bytes]], None]


Piece = WholeFile | Line | Document | Row | StreamedFile
Splits = Mapping[str, Iterable[ExportedSample]]
Convert = Callable[[Dataset, Splits], Iterator[Piece]]
