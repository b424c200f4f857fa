"""The store: one folder on any fsspec filesystem, with atomic writes. It contains all files of the project.

Paths are relative to the store's root, with forward slashes. On a local disk a file is written under a temporary name,
synced and renamed. Object stores show an upload only when it is complete; catalog/object_store.py has their
peculiarities. Other modules should not depend on the kind of a store.
"""

import errno
import io
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from tailforge.catalog import object_store
from tailforge.catalog.temporaries import TEMPORARY, hold_file, hold_folder, remove_abandoned
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.documents.addresses import hide_secrets, holds_secret
from tailforge.schemas.documents.shown import describe_failure, shorten, show_text, steers
from tailforge.schemas.errors import StoreAccessError, StoreError, StoreFullError
from tailforge.schemas.extras import how_to_install

KEPT = "run the same command again; finished work is kept"


def is_address(text: str) -> bool:
    """Return whether a text is a URI of fsspec and not a local path."""
    return "://" in text or "::" in text


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Return a local path with `~` expanded."""
    return Path(os.path.expanduser(path))


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return a local path as an absolute path with `~` expanded."""
    return Path(os.path.abspath(expand_home(path)))


@contextmanager
def storage_errors(action: str, uri: str) -> Iterator[None]:
    """Translate errors of the operating system and of clients of object stores.

    Errors: StoreFullError, StoreAccessError, or StoreError for errors that a retry may solve. FileNotFoundError stays.
    """
    try:
        yield
    except (OSError, *object_store.client_errors()) as error:  # type: ignore[misc]
        problem, number = f"cannot {action} {uri}: {describe_failure(error)}", getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(f"{problem}; the disk is full: free some space, then {KEPT}") from error
        if number in (errno.EISDIR, errno.ENODEV):
            raise StoreAccessError(f"{problem}; put the file back that belongs there, or name another store") from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreAccessError(
                f"{problem}; let this user read and write the store, or choose another with --store"
            ) from error

        if object_store.is_refused(error):
            raise StoreAccessError(f"{problem}; {REFUSED}") from error
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreError(f"{problem}; check the store and {KEPT}") from error


REFUSED = (
    "make the bucket, or name another with --store, and give credentials and endpoint by the environment "
    "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION) or by AWS's own files"
)


# Filesystems of fsspec with folders. Others are views of files (reference, zip) or of one file (data).
PLACES = ("abfs", "abfss", "adl", "az", "dbfs", "file", "ftp", "gcs", "gs", "hdfs", "http", "https", "local", "memory",
          "oci", "oss", "s3", "s3a", "sftp", "smb", "ssh", "webdav", "webhdfs")  # fmt: skip


def _is_known(protocol: str) -> bool:
    """Return whether a protocol is one of PLACES, or one that this process registered with fsspec."""
    return protocol in PLACES or (protocol in fsspec.registry and protocol not in known_implementations)


def require_place(uri: str) -> None:
    """Check the address of a store.

    Errors: StoreAccessError for an address with credentials or without a folder, and for an impossible path.
    """
    advice = "give a folder, or an address such as s3://bucket/folder, by --store or TAILFORGE_STORE"
    if holds_secret(uri):
        raise StoreAccessError(
            f"the store's address {shorten(hide_secrets(uri))} holds credentials or a query; leave them out and give "
            "credentials by the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or by AWS's own files"
        )
    protocol, _, rest = uri.partition("://")
    if not is_address(uri) and not uri.startswith("data:"):
        usable_path(uri, "store", StoreAccessError)
    elif not _is_known(protocol) or not rest.strip("/") or any(map(steers, uri)) or "::" in uri:
        raise StoreAccessError(f"store {show_text(uri)} is no folder of a filesystem that is known here; {advice}")


class Store:
    """A folder on an fsspec filesystem.

    Errors of all methods: StoreError for a failed read or write; others as `storage_errors`.
    """

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        self.fs, self.root, self.uri = fs, root.rstrip("/"), uri
        self.is_local = isinstance(fs, LocalFileSystem)
        self.is_lasting = not isinstance(fs, MemoryFileSystem)

    @classmethod
    def open(cls, uri: str, *, create: bool = False) -> "Store":
        """Open a store by path or URI. `create`: make it and test that it can be written.

        Errors: StoreAccessError; StoreError for a lost connection.
        """
        require_place(uri)
        try:
            store = cls(*object_store.connect(uri), uri)
            if store.is_local and os.path.exists(store.root) and not os.path.isdir(store.root):
                raise NotADirectoryError(errno.ENOTDIR, "it is a file")
            if create:
                store._prove_writable()

        # fsspec raises ImportError for a missing client, and ValueError for an unknown protocol.
        except ImportError as error:
            extra = f"; {how_to_install('s3')}" if object_store.is_object_store(uri) else ""
            raise StoreAccessError(f"store {uri!r} cannot be opened: {error}{extra}") from error
        except (OSError, ValueError) as error:
            done = "written" if create else "opened"
            raise StoreAccessError(
                f"store {show_text(uri)} cannot be {done}: {describe_failure(error)}; give a writable folder or URI "
                "by --store or TAILFORGE_STORE"
            ) from error
        return store

    def _prove_writable(self) -> None:
        """Write a probe. An object store must refuse to create it again, since versions are claimed in this way."""
        name = f"{TEMPORARY}probe-{uuid.uuid4().hex}"
        if self.is_local:
            self.fs.makedirs(self.root, exist_ok=True)
            remove_abandoned(self.root)
            self.fs.pipe_file(self.path(name), b"")
        elif not self.create(name, b"first") or self.create(name, b"second"):
            raise OSError(
                errno.ENOTSUP, "it replaces an existing object although the request forbids it (If-None-Match: *)"
            )
        self.fs.rm_file(self.path(name))

    def path(self, relative: str) -> str:
        """Return the absolute path on the filesystem. Errors: ValueError if `relative` leaves the store."""
        if relative.startswith("/") or ".." in relative.split("/"):
            raise ValueError(f"{relative!r} leaves the store")
        return f"{self.root}/{relative}" if relative else self.root

    def exists(self, relative: str) -> bool:
        """Return whether a file or folder exists."""
        with storage_errors("look up", f"{self.uri}/{relative}"):
            return bool(self.fs.exists(self.path(relative)))

    def size(self, relative: str) -> int:
        """Return the size of a file in bytes. Errors: FileNotFoundError."""
        with storage_errors("look up", f"{self.uri}/{relative}"):
            return int(self.fs.size(self.path(relative)))

    def address(self, relative: str) -> str:
        """Return the absolute path or URI of a file, for people and other programs."""
        return self.path(relative) if self.is_local else str(self.fs.unstrip_protocol(self.path(relative)))

    def names(self, relative: str) -> list[str]:
        """Return the names of a folder's entries, sorted; empty if it does not exist."""
        folder = self.path(relative)
        try:
            with storage_errors("list", f"{self.uri}/{relative}"):
                found = self.fs.ls(folder, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found if name.rstrip("/") != folder)

    def open_read(
        self, relative: str, *, size: int | None = None, read_ahead: int = object_store.READ_AHEAD
    ) -> IO[bytes]:
        """Open a file for reading.

        A remote file is read by ranges of `read_ahead` bytes, or by the requested ranges with 0, and a small file at
        once. A known `size` in bytes saves a request. On a local disk neither matters. Errors: FileNotFoundError;
        StoreError, also from later reads.
        """
        with storage_errors("read", f"{self.uri}/{relative}"):
            if self.is_local:
                return open_file(self.path(relative))

        def read_range(offset: int, size: int) -> bytes:
            """Return bytes [offset, offset + size)."""
            return self.read_range(relative, offset, size)

        size = self.size(relative) if size is None else size
        if size <= read_ahead:
            return io.BytesIO(self.read(relative))
        ranges = object_store.RangeFile(read_range, size)
        return io.BufferedReader(ranges, read_ahead) if read_ahead else ranges  # type: ignore[return-value]

    def read(self, relative: str) -> bytes:
        """Return all bytes of a file. Errors: FileNotFoundError."""
        with storage_errors("read", f"{self.uri}/{relative}"):
            if self.is_local:
                with open_file(self.path(relative)) as file:
                    return file.read()
            return object_store.read_again(lambda: self.fs.cat_file(self.path(relative)))  # type: ignore[no-any-return]

    def read_range(self, relative: str, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size) without reading the rest."""
        return self.read_ranges(relative, [(offset, offset + size)])[0]

    def read_ranges(self, relative: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return bytes [start, stop) of each range, in parallel if the store can; fewer at the file's end."""
        starts, stops = [start for start, _ in ranges], [stop for _, stop in ranges]
        paths = [self.path(relative)] * len(ranges)
        with storage_errors("read", f"{self.uri}/{relative}"):
            if self.is_local:
                with open_file(paths[0]) as file:
                    size = os.fstat(file.fileno()).st_size  # allocate nothing beyond the end
                starts, stops = ([min(place, size) for place in places] for places in (starts, stops))
            return object_store.read_again(lambda: self.fs.cat_ranges(paths, starts, stops, on_error="raise"))

    def download(self, relative: str, target: Path) -> None:
        """Copy a file to the local disk."""
        with storage_errors("read", f"{self.uri}/{relative}"):
            object_store.read_again(lambda: self.fs.get_file(self.path(relative), str(target)))

    def write(self, relative: str, write_to: Callable[[IO[bytes]], None]) -> None:
        """Write a file by the function `write_to`. It is complete or missing, even after a kill or a full disk."""
        target = self.path(relative)
        with storage_errors("write", f"{self.uri}/{relative}"):
            if not self.is_local:
                object_store.upload(self.fs, target, write_to)
                return
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with self._written(target, write_to) as temporary:
                os.replace(temporary, target)

    @contextmanager
    def _written(self, target: str, write_to: Callable[[IO[bytes]], None]) -> Iterator[str]:
        """Yield a synced temporary file next to its target, and remove it afterwards.

        Temporary files of killed processes in the same folder are removed, too. Errors: OSError; StoreError if another
        process removes the file.
        """
        remove_abandoned(os.path.dirname(target))
        with hold_file(target) as out:
            write_to(out)
            out.flush()
            os.fsync(out.fileno())
            try:
                yield out.name
            except FileNotFoundError as error:
                raise StoreError(f"{error.filename} vanished while it was written; {KEPT}") from error

    @contextmanager
    def hold_folder(self, relative: str) -> Iterator[None]:
        """Make a locked folder and remove it at the end unless it was renamed.

        Folders of killed processes next to it are removed. In an object store, which has no folders, nothing happens.
        """
        if not self.is_local:
            yield
            return
        path = self.path(relative)
        with ExitStack() as held:
            with storage_errors("write", f"{self.uri}/{relative}"):
                held.enter_context(hold_folder(path))
                remove_abandoned(os.path.dirname(path))
            yield

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Write a file that is complete or missing, as `write`."""
        if self.is_local:
            self.write(relative, lambda out: _write_all(out, data))
            return
        with storage_errors("write", f"{self.uri}/{relative}"):
            self.fs.pipe_file(self.path(relative), data)

    def create(self, relative: str, data: bytes) -> bool:
        """Write a small file unless it exists; return False if it exists with other bytes. One of several wins."""
        target = self.path(relative)
        with storage_errors("write", f"{self.uri}/{relative}"):
            if not self.is_local:
                return object_store.create(self.fs, target, data)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with self._written(target, lambda out: _write_all(out, data)) as temporary:
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    return self.read(relative) == data
        return True

    def copy(self, source: str, target: str, size: int | None = None) -> None:
        """Copy a file inside the store, by a hard link if the disk supports it. A known `size` saves a request."""
        with storage_errors("write", f"{self.uri}/{target}"):
            if not self.is_local:
                object_store.copy(self.fs, self.path(source), self.path(target), size)
                return
            os.makedirs(os.path.dirname(self.path(target)), exist_ok=True)
            try:
                os.link(self.path(source), self.path(target))
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    raise
                shutil.copyfile(self.path(source), self.path(target))

    def is_same(self, one: str, two: str) -> bool:
        """Return whether two paths are one file, or have equal size and ETag; False if this is unknown."""
        paths = [self.path(one), self.path(two)]
        with storage_errors("look up", f"{self.uri}/{two}"):
            if self.is_local:
                return os.path.exists(paths[1]) and os.path.samefile(*paths)
            try:
                known = [(info.get("size"), info.get("ETag")) for info in map(self.fs.info, paths)]
            except FileNotFoundError:
                return False
        return known[0] == known[1] and bool(known[0][1])

    def replace(self, source: str, target: str) -> None:
        """Replace the file `target` by `source`, which moves on a local disk and is copied elsewhere."""
        if not self.is_local:
            self.copy(source, target)
            return
        with storage_errors("write", f"{self.uri}/{target}"):
            os.replace(self.path(source), self.path(target))

    def now(self) -> float:
        """Return seconds since 1970 by the clock of the store, which may differ from that of this machine."""
        if self.is_local:
            return time.time()
        name = f"{TEMPORARY}clock-{uuid.uuid4().hex}"
        self.write_bytes(name, b"")
        moment, _ = self.measure(name)
        self.remove(name)
        return moment

    def measure(self, relative: str) -> tuple[float, int]:
        """Return (newest modification, freed bytes on removal) of a file or folder.

        Files with another hard link free nothing. A file that vanishes meanwhile was renamed, so it counts as new.
        """
        if not self.is_local:
            with storage_errors("look up", f"{self.uri}/{relative}"):
                return object_store.measure(self.fs, self.path(relative))

        newest, size, root = 0.0, 0, Path(self.path(relative))
        for each in (root, *root.rglob("*")):
            try:
                entry = os.lstat(each)
            except FileNotFoundError:
                return time.time(), size
            newest = max(newest, entry.st_mtime)
            size += entry.st_size if each.is_file() and entry.st_nlink == 1 else 0
        return newest, size

    def remove(self, relative: str) -> None:
        """Remove a file or a folder with its content; do nothing if it does not exist."""
        with storage_errors("remove", f"{self.uri}/{relative}"), suppress(FileNotFoundError):
            if not self.is_local or self.exists(relative):  # another process may remove it, too
                self.fs.rm(self.path(relative), recursive=True)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting, as a pipe would."""
    return os.open(path, flags | os.O_NONBLOCK)


def open_file(path: str, buffering: int = -1) -> IO[bytes]:
    """Open a local file for reading. Errors: OSError, also for a folder, a pipe or a device, which might never end."""
    file = open(path, "rb", buffering, opener=_open_at_once)  # noqa: SIM115  the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.ENODEV, "it is no file but a pipe or a device")
    return file


def _write_all(out: IO[bytes], data: bytes) -> None:
    """Write bytes to an open file."""
    out.write(data)
