"""Files and folders that are being written under a temporary name: known while they are written, gone afterwards.

Whoever writes one holds a lock on it, which the operating system drops when the process ends, however it ends. So one
that nobody holds was left behind by a process that was killed, and may be removed at once.
"""

import os
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

if sys.platform != "win32":  # readers of versions need not have locks
    import fcntl

TEMPORARY = ".tmp-"  # what a name starts with while it is being written
_held: set[str] = set()  # that this process writes now
_lock = threading.RLock()  # `drop_held` may be called by a signal's handler, in whatever moment of this thread


@contextmanager
def hold_file(target: str) -> Iterator[IO[bytes]]:
    """A new file beside `target`, open for writing; removed at the end unless it got another name. Errors: OSError."""
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
    """Make a folder; removed at the end unless it got another name. Errors: OSError."""
    with _listed(path):
        descriptor = _make_held(path)
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)
            shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(folder: str) -> None:
    """Remove what killed processes were writing in a folder; what is still written, or cannot be locked, stays."""
    with suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith(TEMPORARY) and path not in _held:
                with suppress(OSError):
                    _remove_unheld(path)


def drop_held() -> None:
    """Remove what this process is writing, when it ends at once. A folder that gets its name meanwhile stays whole."""
    with _lock:
        held = list(_held)
    for path in held:
        with suppress(OSError):
            if not os.path.isdir(path):
                os.unlink(path)
                continue
            aside = f"{os.path.dirname(path)}/{TEMPORARY}{uuid.uuid4().hex}"
            os.rename(path, aside)  # its name is free for nobody now: the writer cannot publish half of it
            shutil.rmtree(aside, ignore_errors=True)


def _make_held(path: str) -> int | None:
    """Make a folder and lock it; the descriptor that holds the lock, None on systems that have no such thing."""
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
    with _lock:
        _held.add(path)
    try:
        yield
    finally:
        with _lock:
            _held.discard(path)


def _take(descriptor: int, path: str) -> bool:
    """Lock a new file or folder. False if somebody took it for abandoned in the moment before."""
    if sys.platform == "win32":
        return True
    with suppress(OSError):  # a filesystem without locks: then nobody else can lock it either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_unheld(path: str) -> None:
    """Errors: OSError if it is held, or is gone."""
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
