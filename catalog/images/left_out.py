"""Count what a source of images holds and no record shows, per reason with examples."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tailforge.catalog.pictures import SUFFIXES
from tailforge.schemas.documents.shown import count_of, visible
from tailforge.schemas.errors import ImagesError

EXAMPLES = 3  # per reason


@dataclass(frozen=True)
class Reason:
    """Why something is left out. `mistake`: what is wrong and what to do, where a strict reader refuses it."""

    what: str
    mistake: str | None = None


HIDDEN = Reason("hidden file or folder")
SYSTEM = Reason("file or folder of an operating system")
OTHER = Reason("file that is no picture")
BESIDE = Reason("file or folder beside the folders of the splits")
BESIDE_MASKS = Reason("file beside the folders images and masks")
UNLABELLED = Reason("image without a label")
UNCAPTIONED = Reason("image without a caption")
UNPICTURED = Reason("sample of a tar without an image")
UNNAMED = Reason("image that no annotation names")
UNREADABLE = Reason("image that cannot be decoded", "cannot be read as an image: {detail}; replace or remove it")
FORMAT = Reason(
    "picture in a format that is not read", f"cannot be read; save it as one of {', '.join(SUFFIXES)}, or remove it"
)
OUTSIDE = Reason("link that leaves the folder", "is a link that leaves {detail}; copy the file instead")
ELSEWHERE = Reason("path that leaves the folder", "leaves {detail}; copy the file into the folder")
FOLDER_LINK = Reason("link to a folder", "is a link to a folder; copy the folder instead")
NO_FILE = Reason("missing file", "is no file, or a link to none; put the image there or remove it")
CLOSED = Reason("folder that cannot be read", "cannot be read: {detail}; allow reading it")
EMPTY = Reason("class without an image", "holds no image; put images of its class there, or remove it")


@dataclass(frozen=True)
class Entry:
    """One reason's count, its first places, and the error of the first."""

    count: int
    examples: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """What a reader left out, by reason."""

    entries: Mapping[Reason, Entry] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(entry.count for entry in self.entries.values())

    def lines(self) -> list[str]:
        """Return one line per reason: its count, its name and a few places."""
        lines = []
        for reason, entry in self.entries.items():
            more = ", ..." if entry.count > len(entry.examples) else ""
            lines.append(f"{reason.what}: {entry.count:,} ({visible(', '.join(entry.examples))}{more})")
        return lines

    def describe(self) -> str:
        """Return the whole report as text."""
        if not self.entries:
            return "nothing was left out"
        return "\n".join([f"left out: {count_of(len(self), 'item')}", *(f"  {line}" for line in self.lines())])

    def first_error(self) -> str:
        """Return the error about the first place that could have been an image; empty without one."""
        return next((entry.error for entry in self.entries.values() if entry.error is not None), "")

    def refuse(self) -> None:
        """Check that nothing was left out which could have been an image. Errors: ImagesError naming the first."""
        if error := self.first_error():
            raise ImagesError(error)

    def without(self, *reasons: Reason) -> "LeftOut":
        """Return the report without some reasons."""
        return LeftOut({reason: entry for reason, entry in self.entries.items() if reason not in reasons})

    def joined(self, other: "LeftOut") -> "LeftOut":
        """Return both reports as one."""
        entries = dict(self.entries)
        for reason, entry in other.entries.items():
            mine = entries.get(reason)
            entries[reason] = entry if mine is None else _join(mine, entry)
        return LeftOut(entries)


class Counter:
    """Collects what is left out while a source is read."""

    def __init__(self) -> None:
        self._entries: dict[Reason, Entry] = {}

    def add(self, reason: Reason, place: str, detail: str = "") -> None:
        """Count one place. `detail` fills the reason's mistake."""
        old = self._entries.get(reason)
        if old is not None and len(old.examples) == EXAMPLES:
            self._entries[reason] = replace(old, count=old.count + 1)
            return

        error = None if reason.mistake is None else f"{place} {reason.mistake.format(detail=detail)}"
        new = Entry(1, (place,), error)
        self._entries[reason] = new if old is None else _join(old, new)

    def report(self) -> LeftOut:
        """Return what was counted so far."""
        return LeftOut(dict(self._entries))


def _join(first: Entry, second: Entry) -> Entry:
    examples = (*first.examples, *second.examples)[:EXAMPLES]
    return Entry(first.count + second.count, examples, first.error or second.error)
