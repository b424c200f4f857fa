"""A cache of remote shards on the local disk, shared by processes and bounded in bytes.

fsspec's caches (simplecache and filecache of 2026.9) are not suitable. They download under the final name, so a second
process reads incomplete files. They also have no bound in bytes and check no digest.

A shard's name is its sha256, so versions with common shards share them. A download has a temporary name until it is
checked. Each use sets the file's time of modification, and the least recently used shard is removed first. Readers
keep the file open, so removal does not disturb them and frees the space when they close it.
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

ABANDONED_SECONDS = 3600  # time without a written byte after which a download counts as left by a killed process


class ShardCache:
    """A cache of whole shards in `folder`, at most `max_bytes` in total, running downloads included.

    Two processes that need a shard at the same time may both download it and so exceed the bound for a moment.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes

    def open(self, store: Store, path: str, entry: ShardEntry) -> IO[bytes]:
        """Return the shard at `path` of a store, open for reading. Download it first if it is not in the cache.

        Errors: VerificationError if the downloaded bytes differ from `entry`; StoreError, StoreFullError and
        StoreAccessError as `storage_errors`.
        """
        # A shard in the cache was checked after its download.
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
        """Download, check and rename a shard; return it open. Errors: VerificationError, StoreError."""
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

            # Open before renaming: from then on other processes may remove the file.
            downloaded = _open(temporary)
            os.replace(temporary, kept)
        finally:
            temporary.unlink(missing_ok=True)
        return downloaded

    def _make_room(self, size: int) -> None:
        """Remove abandoned downloads, and the least recently used shards until `size` more bytes fit."""
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
    """Open a file without a buffer, since requests are large."""
    return open(path, "rb", buffering=0)
