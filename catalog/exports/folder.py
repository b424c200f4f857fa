"""Write an export. The folder gets its name only when it is complete."""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from tailforge.catalog.exports.pieces import Document, Line, Piece, Row, StreamedFile, WholeFile
from tailforge.catalog.temporaries import TEMPORARY, hold_folder
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import NotFoundError, StoreAccessError, StoreError, StoreFullError, UserError


@contextmanager
def writing_errors(target: Path) -> Iterator[None]:
    """Translate errors of the operating system. Errors: StoreFullError, StoreAccessError, StoreError."""
    try:
        yield
    except OSError as error:
        problem = f"cannot write --out {target}: {describe_failure(error)}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(f"{problem}; the disk is full: free some space and export again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreAccessError(f"{problem}; name a folder where you may write") from error
        raise StoreError(f"{problem}; export again or name another folder") from error


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `target` if the context ends without an error; else remove it.

    Errors: UserError if `target` exists; NotFoundError if its parent folder does not; others as `writing_errors`.
    """
    if os.path.lexists(target):
        raise UserError(f"--out {target} exists already; name another folder or remove it")
    if not os.path.isdir(target.parent):
        raise NotFoundError(f"--out {target}: the folder {target.parent} does not exist; make it first")

    temporary = target.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    with ExitStack() as held:
        with writing_errors(target):
            held.enter_context(hold_folder(str(temporary)))
        yield temporary
        with writing_errors(target):
            os.rename(temporary, target)


class PieceWriter:
    """Writes pieces into `folder`. Rows of JSON lists go to temporary files, so memory does not grow with them.

    Use it as a context manager. `files` and `bytes`: totals, complete after `finish`. `target`: the folder's final name
    for errors.
    """

    def __init__(self, folder: Path, target: Path) -> None:
        self.files = self.bytes = 0
        self._folder, self._target = folder, target
        self._documents: list[Document] = []
        self._open: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "PieceWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with writing_errors(self._target):
            self._stack.close()

    def write(self, piece: Piece) -> None:
        """Write one piece. Errors: as `writing_errors`."""
        with writing_errors(self._target):
            # Lines and rows of one file come in pieces, so their files stay open.
            match piece:
                case WholeFile(path, data):
                    with open(self._place(path), "xb") as out:
                        out.write(data)
                    self._count(path)
                case StreamedFile(path, write):
                    with open(self._place(path), "xb") as out:
                        write(out)
                    self._count(path)
                case Line(path, text):
                    self._append(path, f"{text}\n".encode())
                case Document():
                    self._documents.append(piece)
                case Row(path, name, value):
                    self._append(_rows_file(path, name), json.dumps(value).encode() + b"\n")

    def finish(self) -> None:
        """Assemble the JSON documents from their rows. Errors: as `writing_errors`."""
        with writing_errors(self._target):
            self._stack.close()
            rows = {_rows_file(document.path, name) for document in self._documents for name in document.lists}
            for document in self._documents:
                self._assemble(document)
                self._count(document.path)
            for path in self._open.keys() - rows:
                self._count(path)

    def _assemble(self, document: Document) -> None:
        """Write one JSON document: its head, then its lists."""
        with open(self._place(document.path), "xb") as out:
            out.write(json.dumps(document.head).encode()[:-1])
            for name in document.lists:
                out.write(f', "{name}": ['.encode())
                rows = self._folder / _rows_file(document.path, name)
                if rows.exists():
                    _copy_rows(rows, out)
                    rows.unlink()
                out.write(b"]")
            out.write(b"}\n")

    def _append(self, path: str, data: bytes) -> None:
        """Append to a file that stays open until the end."""
        if path not in self._open:
            out = open(self._place(path), "xb")  # noqa: SIM115  the stack closes it
            self._open[path] = self._stack.enter_context(out)
        self._open[path].write(data)

    def _place(self, path: str) -> Path:
        """Return the place of a file and create its folder."""
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def _count(self, path: str) -> None:
        """Add a finished file to the totals."""
        self.files += 1
        self.bytes += os.path.getsize(self._folder / path)


def _rows_file(path: str, name: str) -> str:
    """Return the name of the temporary file with the rows of a list."""
    return f"{path}.{name}"


def _copy_rows(rows: Path, out: IO[bytes]) -> None:
    """Copy the lines of `rows` as the elements of a JSON list."""
    with open(rows, "rb") as lines:
        for number, line in enumerate(lines):
            out.write((b",\n" if number else b"\n") + line.rstrip(b"\n"))
