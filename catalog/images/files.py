"""List the files of a folder that may come from somebody else, without following links out of it."""

import mimetypes
import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tailforge.catalog.images.left_out import (
    CLOSED,
    ELSEWHERE,
    FOLDER_LINK,
    FORMAT,
    HIDDEN,
    NO_FILE,
    OUTSIDE,
    SYSTEM,
    Counter,
    Reason,
)
from tailforge.catalog.pictures import SUFFIXES
from tailforge.catalog.sources.links import leaves
from tailforge.catalog.sources.references import SYSTEM_FILES
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ImagesError

FOREIGN = (".avif", ".heic", ".heif", ".jfif", ".jp2", ".jxl")  # suffixes unknown to some Python versions
SYSTEM_NAMES = (*SYSTEM_FILES, "__macosx", "$recycle.bin", "system volume information")


@dataclass(frozen=True)
class Listing:
    """The visible content of `folder` and its subfolders: names below it with `/`, in the order of their parts.

    `images` have the suffix of a format that is read, `others` another; `folders` are all subfolders.
    """

    folder: Path
    root: Path
    images: tuple[str, ...]
    others: tuple[str, ...]
    folders: tuple[str, ...]


def list_folder(folder: Path, root: Path, left_out: Counter) -> Listing:
    """Return the content of a folder. No link may leave `root`; a link to a folder counts directly below `folder` only.

    Hidden files, files of operating systems, foreign picture formats and unusable links go to `left_out`.
    """
    walk = _Walk(folder, root, left_out)
    walk.enter("")
    order = [sorted(names, key=lambda name: name.split("/")) for names in (walk.images, walk.others, walk.folders)]
    return Listing(folder, root, *map(tuple, order))


class _Walk:
    """One pass over a folder."""

    def __init__(self, folder: Path, root: Path, left_out: Counter) -> None:
        self.folder, self.root, self.left_out = folder, root, left_out
        self.images: list[str] = []
        self.others: list[str] = []
        self.folders: list[str] = []

    def enter(self, inner: str) -> None:
        """List a subfolder, whose name ends with `/`."""
        try:
            with os.scandir(self.folder / inner) as found:
                entries = list(found)
        except OSError as error:
            self.left_out.add(CLOSED, str(self.folder / inner), describe_failure(error))
            return
        for entry in sorted(entries, key=lambda each: each.name):
            self.take(entry, inner + entry.name)

    def take(self, entry: os.DirEntry[str], name: str) -> None:
        """Sort one entry into images, others, folders or what is left out."""
        if entry.name.startswith("."):
            self.left_out.add(HIDDEN, entry.path)
        elif entry.name.lower() in SYSTEM_NAMES:
            self.left_out.add(SYSTEM, entry.path)
        elif entry.is_symlink() and (reason := self.refuse_link(entry, name)):
            self.left_out.add(reason, entry.path, str(self.root))
        elif entry.is_dir():
            self.folders.append(name)
            self.enter(f"{name}/")
        else:
            self.take_file(entry, name)

    def refuse_link(self, entry: os.DirEntry[str], name: str) -> Reason | None:
        """Return why a link is not followed. Links to other files than pictures are nobody's business."""
        folder = _is_folder(entry)
        if not folder and not _is_picture(entry.name):
            return None
        if leaves(Path(entry.path), self.root):
            return OUTSIDE
        return FOLDER_LINK if folder and "/" in name else None

    def take_file(self, entry: os.DirEntry[str], name: str) -> None:
        """Sort a file by its suffix."""
        if os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
            if _is_picture(entry.name):
                self.left_out.add(FORMAT, entry.path)
            else:
                self.others.append(name)
        elif entry.is_file():
            self.images.append(name)
        else:
            self.left_out.add(NO_FILE, entry.path)


class Places:
    """Finds files that a table or a JSON file names, relative to a folder that none of them may leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = os.path.realpath(folder)
        self._real = lru_cache(10_000)(os.path.realpath)

    def require(self, name: str) -> str:
        """Return the path of a named file. Errors: ImagesError for one that cannot be used."""
        path, reason = self.locate(name)
        if reason is not None:
            raise ImagesError(f"{path} {(reason.mistake or '').format(detail=self.folder)}")
        return path

    def locate(self, name: str) -> tuple[str, Reason | None]:
        """Return the path of a named file, and why it cannot be used."""
        path = os.path.normpath(os.path.join(self.folder, name.replace("\\", "/")))
        if "\0" in path:
            return path.replace("\0", "?"), NO_FILE
        parent = self._real(os.path.dirname(path))
        if not f"{parent}/".startswith(f"{self._root}/"):
            return path, ELSEWHERE
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                if leaves(Path(path), Path(self._root)):
                    return path, OUTSIDE
                mode = os.stat(path).st_mode
        except OSError:
            return path, NO_FILE
        return path, None if stat.S_ISREG(mode) else NO_FILE


def require_inside(file: Path, root: Path) -> Path:
    """Return the file. Errors: ImagesError for a link that leaves the folder `root`."""
    if leaves(file, root):
        raise ImagesError(f"{file} is a link that leaves {root}; copy the file instead")
    return file


def read_image_file(file: str | Path) -> bytes:
    """Return the bytes of a file. Errors: ImagesError for a file that cannot be read."""
    try:
        with open(file, "rb") as content:
            return content.read()
    except OSError as error:
        raise ImagesError(
            f"{file} cannot be read: {describe_failure(error)}; put it back or allow reading it"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that run in a ring
        return False


@lru_cache(1000)
def _is_picture_suffix(suffix: str) -> bool:
    media_type, _ = mimetypes.guess_type(f"picture{suffix}", strict=False)
    return suffix in FOREIGN or (media_type or "").startswith("image/")


def _is_picture(name: str) -> bool:
    """Return whether a file's name means a picture in any format."""
    return _is_picture_suffix(os.path.splitext(name)[1].lower())
