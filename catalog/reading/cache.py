"""Shards of a remote store on the local disk, shared by processes and bounded in bytes.

fsspec's own caches (simplecache, filecache of 2026.9) were looked at first: they download under the final name, so
that a second process reads what is not complete yet, know no bound in bytes and check no digest.

A shard is kept under its sha256, so versions that share shards share them here. It is downloaded under a temporary
name, checked and renamed; when it is used, its time of modification says so, and the one unused longest goes first.
Whoever reads holds the file open: removing it then frees its space only when it is closed, and breaks nobody.
"""

import hashlib
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO

from tailforge.catalog.store import Store, storage_errors
from tailforge.catalog.temporaries import TEMPORARY
from tailforge.schemas.dataset import ShardEntry
from tailforge.schemas.errors import VerificationError

ABANDONED_SECONDS = 3600  # without a byte written: left by a process that was killed


class ShardCache:
    """Whole shards in `folder`, at most `max_bytes` of them, those that are being downloaded included.

    Two processes that need a shard at once may both download it, and may then be over the bound by it for a moment.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes

    def open(self, store: Store, path: str, entry: ShardEntry) -> IO[bytes]:
        """The shard at `path`, open for reading; downloaded first where it is not kept.

        Errors: VerificationError if its bytes are not those of `entry`; StoreError and its like.
        """
        kept = self.folder / f"{entry.sha256}.tar"
        with suppress(FileNotFoundError):
            if kept.stat().st_size == entry.bytes:
                file = _open(kept)
                with suppress(FileNotFoundError):  # another process may be making room
                    os.utime(kept)
                return file
        with storage_errors("cache", f"{store.uri}/{path} in {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(entry.bytes)
            return self._download(store, path, entry, kept)

    def _download(self, store: Store, path: str, entry: ShardEntry, kept: Path) -> IO[bytes]:
        temporary = self.folder / f"{TEMPORARY}{uuid.uuid4().hex}.tar"
        try:
            store.download(path, temporary)
            with open(temporary, "rb+") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            if digest != entry.sha256:
                raise VerificationError(
                    f"{store.uri}/{path} has sha256 {digest}, dataset.json says {entry.sha256}; try again, and run "
                    "`tailforge verify` if it stays so"
                )
            downloaded = _open(temporary)
            os.replace(temporary, kept)
        finally:
            temporary.unlink(missing_ok=True)
        return downloaded

    def _make_room(self, size: int) -> None:
        """Remove what was unused longest until `size` bytes more fit."""
        files = []
        for path in self.folder.glob("*.tar"):
            with suppress(FileNotFoundError):
                found = path.stat()
                files.append((found.st_mtime_ns, found.st_size, path))
        total = sum(length for _, length, _ in files)
        for modified, length, path in sorted(files):
            is_download = path.name.startswith(TEMPORARY)
            if is_download and time.time() - modified / 1e9 < ABANDONED_SECONDS:
                continue
            if is_download or total + size > self.max_bytes:
                path.unlink(missing_ok=True)
                total -= length


def _open(path: Path) -> IO[bytes]:
    return open(path, "rb", buffering=0)
