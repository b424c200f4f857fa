"""The store: one folder on any fsspec filesystem, with atomic writes. Everything the project keeps lies in it.

Paths given to a Store are relative to its root, with forward slashes. On a local disk a file is written under a
temporary name, synced and renamed; object stores make a put visible only when it is complete.
"""

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import StoreAccessError, StoreError, StoreFullError

TEMPORARY = ".tmp-"  # what a name starts with while it is being written; a killed process may leave some


KEPT = "run the same command again; finished work is kept"


@contextmanager
def storage_errors(action: str, uri: str) -> Iterator[None]:
    """Turn the operating system's errors into ours.

    Errors: StoreFullError, StoreAccessError, or StoreError for all that a retry may mend.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        what = f"cannot {action} {uri}: {error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(f"{what}; the disk is full: free some space, then {KEPT}") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreAccessError(f"{what}; make the store writable or choose another with --store") from error
        raise StoreError(f"{what}; check the store and {KEPT}") from error


class Store:
    """A folder on an fsspec filesystem. Errors: StoreError for a read or write that failed on the way."""

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        self.fs, self.root, self.uri = fs, root.rstrip("/"), uri
        self.is_local = isinstance(fs, LocalFileSystem)

    @classmethod
    def open(cls, uri: str, *, create: bool = False) -> "Store":
        """Open a store by path or URI.

        With `create`, make it and prove that it can be written. Errors: StoreAccessError.
        """
        try:
            fs, root = fsspec.core.url_to_fs(uri)
            store = cls(fs, root, uri)
            if create:
                fs.makedirs(root, exist_ok=True)
                probe = store.path(f"{TEMPORARY}probe-{uuid.uuid4().hex}")
                fs.pipe_file(probe, b"")
                fs.rm_file(probe)
        except (OSError, ValueError, ImportError) as error:
            done = "written" if create else "opened"
            raise StoreAccessError(
                f"store {uri!r} cannot be {done}: {error}; give a writable folder or URI by --store or TAILFORGE_STORE"
            ) from error
        return store

    def path(self, relative: str) -> str:
        """Absolute path on the filesystem. Errors: ValueError if `relative` leaves the store."""
        if relative.startswith("/") or ".." in relative.split("/"):
            raise ValueError(f"{relative!r} leaves the store")
        return f"{self.root}/{relative}" if relative else self.root

    def exists(self, relative: str) -> bool:
        with storage_errors("look up", f"{self.uri}/{relative}"):
            return bool(self.fs.exists(self.path(relative)))

    def size(self, relative: str) -> int:
        with storage_errors("look up", f"{self.uri}/{relative}"):
            return int(self.fs.size(self.path(relative)))

    def names(self, relative: str) -> list[str]:
        """Names of the entries of a folder, sorted; empty where it does not exist."""
        try:
            found = self.fs.ls(self.path(relative), detail=False, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found)

    def open_read(self, relative: str) -> IO[bytes]:
        with storage_errors("read", f"{self.uri}/{relative}"):
            return self.fs.open(self.path(relative), "rb")  # type: ignore[no-any-return]

    def read(self, relative: str) -> bytes:
        with storage_errors("read", f"{self.uri}/{relative}"):
            return self.fs.cat_file(self.path(relative))  # type: ignore[no-any-return]

    def read_range(self, relative: str, offset: int, size: int) -> bytes:
        """Bytes [offset, offset + size) without reading the rest."""
        with storage_errors("read", f"{self.uri}/{relative}"):
            return self.fs.cat_file(self.path(relative), start=offset, end=offset + size)  # type: ignore[no-any-return]

    def write(self, relative: str, write_to: Callable[[IO[bytes]], None]) -> None:
        """Write a file that is either not there or complete, also after a kill or a full disk."""
        target = self.path(relative)
        parent, name = target.rsplit("/", 1)
        with storage_errors("write", f"{self.uri}/{relative}"):
            self.fs.makedirs(parent, exist_ok=True)
            if not self.is_local:
                with self.fs.open(target, "wb") as out:
                    write_to(out)
                return
            temporary = f"{parent}/{TEMPORARY}{uuid.uuid4().hex}-{name}"
            try:
                with open(temporary, "wb") as out:
                    write_to(out)
                    out.flush()
                    os.fsync(out.fileno())
                os.replace(temporary, target)
            except BaseException:
                if os.path.exists(temporary):
                    os.unlink(temporary)
                raise

    def write_bytes(self, relative: str, data: bytes) -> None:
        def write_to(out: IO[bytes]) -> None:
            out.write(data)

        self.write(relative, write_to)

    def remove(self, relative: str) -> None:
        """Remove a file or a folder with all that it holds; no error where it does not exist."""
        with storage_errors("remove", f"{self.uri}/{relative}"):
            if self.exists(relative):
                self.fs.rm(self.path(relative), recursive=True)
