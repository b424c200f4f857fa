"""The store: a file is there whole or not at all, and nothing leaves the store's folder."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tailforge.catalog.reading.byte_ranges import read_file
from tailforge.catalog.store import Store, storage_errors
from tailforge.schemas.errors import StoreAccessError, StoreError, StoreFullError, TailforgeError


def test_written_bytes_are_read_back(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    store.write_bytes("a/b.bin", b"0123456789")
    assert store.read("a/b.bin") == b"0123456789"
    assert store.read_range("a/b.bin", 3, 4) == b"3456"
    assert (store.size("a/b.bin"), store.names("a")) == (10, ["b.bin"])


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)

    def full_disk(out: IO[bytes]) -> None:
        out.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreFullError, match=r"the disk is full.*finished work is kept"):
        store.write("a/b.bin", full_disk)
    assert list(tmp_path.rglob("*.bin")) == []


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    store.write_bytes("b.bin", b"old")

    def killed(out: IO[bytes]) -> None:
        out.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write("b.bin", killed)
    assert store.read("b.bin") == b"old"
    assert store.names("") == ["b.bin"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../out", "a/../../out"])
def test_paths_cannot_leave_the_store(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="leaves the store"):
        Store.open(str(tmp_path)).path(path)


def test_a_store_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreAccessError, match="cannot be written"):
        Store.open(str(tmp_path / "file" / "store"), create=True)


def test_unknown_protocol_is_refused() -> None:
    with pytest.raises(StoreAccessError, match="nosuch"):
        Store.open("nosuch://bucket/store", create=True)


def test_memory_filesystem_works_alike() -> None:
    store = Store.open("memory://tailforge-store", create=True)
    store.write_bytes("a/b.bin", b"abc")
    assert store.read("a/b.bin") == b"abc"
    store.remove("a")
    assert not store.exists("a/b.bin")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    """A pipe would block for ever, and a device never end."""
    place = tmp_path / "file"
    makers: dict[str, Callable[[Path], None]] = {
        "pipe": os.mkfifo,
        "device": lambda path: os.symlink("/dev/zero", path),
        "folder": os.mkdir,
    }
    makers[kind](place)
    store = Store.open(str(tmp_path))
    for read in (store.read, store.open_read, lambda path: store.read_range(path, 0, 1)):
        with pytest.raises(StoreAccessError, match="cannot read"):
            read("file")


def test_a_range_beyond_the_end_costs_no_memory(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.write_bytes("a", b"0123456789")
    assert store.read_ranges("a", [(8, 2**53), (2**50, 2**53), (1, 3)]) == [b"89", b"", b"12"]
    with open(tmp_path / "a", "rb") as file:
        assert read_file(file)([(8, 2**53), (2**50, 2**53), (1, 3)]) == [b"89", b"", b"12"]


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.EACCES, StoreAccessError, "cannot read s/a: this user has no permission; let this user read and write"),
        (errno.EROFS, StoreAccessError, "cannot read s/a: its filesystem can only be read; let this user"),
        (errno.ENOSPC, StoreFullError, "cannot read s/a: no space is left; the disk is full: free some space"),
        (errno.EISDIR, StoreAccessError, "cannot read s/a: it is a folder; put the file back"),
        (errno.EIO, StoreError, "cannot read s/a: the disk or the connection failed; check the store and run"),
        (errno.ETIMEDOUT, StoreError, "cannot read s/a: connection timed out; check the store and run"),
    ],
)
def test_errors_of_the_system_are_worded(number: int, kind: type[TailforgeError], message: str) -> None:
    with pytest.raises(kind) as raised, storage_errors("read", "s/a"):
        raise OSError(number, os.strerror(number), "/elsewhere/a")
    assert str(raised.value).startswith(message)
    assert "Errno" not in str(raised.value)


def test_a_store_that_cannot_be_made_says_why_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreAccessError, match="cannot be written: a part of its path is no folder; give a writable"):
        Store.open(str(tmp_path / "file" / "store"), create=True)
