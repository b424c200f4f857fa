"""What a format makes of a version: pieces of files, in the order in which they become known.

A format is a generator of pieces, so neither it nor whoever writes them holds more than one sample.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from tailforge.catalog.exports.samples import ExportedSample
from tailforge.schemas.dataset import Dataset


@dataclass(frozen=True)
class WholeFile:
    """A file and all its bytes. Paths are relative to the export's folder, with forward slashes."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Line:
    """One more line of a text file."""

    path: str
    text: str


@dataclass(frozen=True)
class Document:
    """A JSON object: the keys of `head`, and the keys `lists`, whose rows follow as `Row`."""

    path: str
    head: Mapping[str, Any]
    lists: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One more row of a list in a Document that came before."""

    path: str
    list: str
    value: Mapping[str, Any]


@dataclass(frozen=True)
class StreamedFile:
    """A file that `write` fills, for what is larger than memory should hold."""

    path: str
    write: Callable[[IO[bytes]], None]


Piece = WholeFile | Line | Document | Row | StreamedFile
Splits = Mapping[str, Iterable[ExportedSample]]
Convert = Callable[[Dataset, Splits], Iterator[Piece]]
