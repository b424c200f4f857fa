"""Write files and folders under temporary names, and remove those of killed processes.

The writer holds a lock, which the operating system releases when the process ends in any way. So a temporary file
without a lock belongs to a killed process, and may be removed at once.
"""

import os
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

if sys.platform != "win32":  # readers of versions need no locks
    import fcntl

TEMPORARY = ".tmp-"  # prefix of a temporary name
_held: set[str] = set()  # paths that this process is writing
_lock = threading.RLock()  # reentrant, since a signal's handler may call `drop_held` at any moment of this thread


@contextmanager
def hold_file(target: str) -> Iterator[IO[bytes]]:
    """Yield a new open file next to `target`, and remove it at the end unless it was renamed. Errors: OSError."""
    parent, name = os.path.split(target)
    while True:
        path = os.path.join(parent, f"{TEMPORARY}{uuid.uuid4().hex}-{name}")
        with _listed(path), open(path, "xb") as out:
            if not _take(out.fileno(), path):
                continue
            try:
                yield out
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(path)
            return


@contextmanager
def hold_folder(path: str) -> Iterator[None]:
    """Make a folder and remove it at the end unless it was renamed. Errors: OSError."""
    with _listed(path):
        descriptor = _make_held(path)
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)
            shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(folder: str) -> None:
    """Remove the temporary files of killed processes from a folder; files that cannot be locked stay."""
    with suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith(TEMPORARY) and path not in _held:
                with suppress(OSError):
                    _remove_unheld(path)


def drop_held() -> None:
    """Remove all temporary files of this process before it ends. A folder renamed at the same time stays whole."""
    with _lock:
        held = list(_held)
    for path in held:
        with suppress(OSError):
            if not os.path.isdir(path):
                os.unlink(path)
                continue
            aside = f"{os.path.dirname(path)}/{TEMPORARY}{uuid.uuid4().hex}"
            os.rename(path, aside)  # now the writer cannot publish a partly removed folder
            shutil.rmtree(aside, ignore_errors=True)


def _make_held(path: str) -> int | None:
    """Make a folder, lock it, and return the lock's descriptor; None on systems without locks."""
    while True:
        os.makedirs(path, exist_ok=True)
        if sys.platform == "win32":
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        if _take(descriptor, path):
            return descriptor
        os.close(descriptor)


@contextmanager
def _listed(path: str) -> Iterator[None]:
    """Record a path as written by this process inside the context."""
    with _lock:
        _held.add(path)
    try:
        yield
    finally:
        with _lock:
            _held.discard(path)


def _take(descriptor: int, path: str) -> bool:
    """Lock a new file or folder; return False if another process removed it as abandoned just before."""
    if sys.platform == "win32":
        return True
    with suppress(OSError):  # on a filesystem without locks no other process can lock it either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_unheld(path: str) -> None:
    """Remove a temporary file or folder that no process holds. Errors: OSError if it is held or gone."""
    if sys.platform == "win32":
        return
    is_folder = os.path.isdir(path) and not os.path.islink(path)
    mode = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_WRONLY
    descriptor = os.open(path, mode | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path) if is_folder else os.unlink(path)
    finally:
        os.close(descriptor)
