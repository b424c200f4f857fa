"""Shards kept on the local disk: downloaded once, whole or not at all, within their bound, by several processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.reading.cache import ABANDONED_SECONDS
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ReadingError, VerificationError
from tests.support.counted_files import CountedFileSystem
from tests.support.repository import ROOT


def read_keys(store: str, cache: Path, **options: Any) -> list[str]:
    samples = open_dataset(f"counted://{store}", name="parts", decode=False, cache=str(cache), verify=True, **options)
    return [sample["key"] for sample in samples]


def count_shards() -> dict[str, int]:
    return {name: size for name, size in CountedFileSystem.bytes_read.items() if name.endswith(".tar")}


def list_sizes(store: Store) -> dict[str, int]:
    shards = Path(store.path("datasets/parts/1.0.0/shards")).glob("train-*.tar")
    return {path.name: path.stat().st_size for path in shards}


def test_shards_are_downloaded_once(published: Store, tmp_path: Path) -> None:
    CountedFileSystem.bytes_read.clear()
    expected = [sample["key"] for sample in open_dataset(published.uri, name="parts")]
    for _ in range(2):
        assert read_keys(published.root, tmp_path / "cache") == expected
        assert count_shards() == list_sizes(published)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_the_bound_holds_and_what_was_unused_longest_goes(published: Store, tmp_path: Path) -> None:
    sizes, cache = list_sizes(published), tmp_path / "cache"
    bound = 2 * max(sizes.values())
    CountedFileSystem.bytes_read.clear()
    samples = open_dataset(f"counted://{published.root}", name="parts", cache=str(cache), cache_bytes=bound)
    for _ in samples:
        assert sum(path.stat().st_size for path in cache.iterdir()) <= bound
    third, fourth = sorted(sizes)[2:]
    next(iter(samples))  # downloads the first and removes the third
    assert count_shards()[sorted(sizes)[0]] == 2 * sizes[sorted(sizes)[0]]
    part = open_dataset(
        f"counted://{published.root}", name="parts", cache=str(cache), cache_bytes=bound, rank=7, world_size=8
    )
    list(part)
    assert (count_shards()[third], count_shards()[fourth]) == (sizes[third], sizes[fourth])


def test_a_cache_too_small_for_a_shard_is_refused(published: Store, tmp_path: Path) -> None:
    with pytest.raises(ReadingError, match=r"cache_bytes is 1000, and a shard has [\d,]+ bytes"):
        read_keys(published.root, tmp_path, cache_bytes=1000)


def test_a_damaged_download_is_not_kept(published: Store, tmp_path: Path) -> None:
    store = Path(shutil.copytree(published.path(""), tmp_path / "store"))
    shard = store / "datasets/parts/1.0.0/shards/train-000000.tar"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1  # in the end mark: no member's digest would tell
    shard.write_bytes(data)
    with pytest.raises(VerificationError, match=r"train-000000\.tar has sha256 .*, dataset\.json says"):
        read_keys(str(store), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_was_cut_off_on_the_disk_is_downloaded_again(published: Store, tmp_path: Path) -> None:
    expected = read_keys(published.root, tmp_path)
    for path in tmp_path.iterdir():
        os.truncate(path, 512)
    assert read_keys(published.root, tmp_path) == expected


def test_what_a_killed_process_left_is_removed_when_it_is_old(published: Store, tmp_path: Path) -> None:
    old, fresh = tmp_path / ".tmp-old.tar", tmp_path / ".tmp-fresh.tar"
    for path in (old, fresh):
        path.write_bytes(b"part")
    os.utime(old, (0, old.stat().st_mtime - ABANDONED_SECONDS - 60))
    read_keys(published.root, tmp_path)
    assert (old.exists(), fresh.exists()) == (False, True)


def test_processes_share_a_small_cache(published: Store, tmp_path: Path) -> None:
    """Each removes what the others read, and downloads what they download."""
    bound = max(list_sizes(published).values()) + 1
    program = (
        "from tests.catalog.reading.test_cache import read_keys\nfrom pathlib import Path\n"
        f"for turn in range(5): print(*read_keys({published.root!r}, Path({str(tmp_path)!r}), cache_bytes={bound}))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    expected = [sample["key"] for sample in open_dataset(published.uri, name="parts")]
    for process in both:
        out, _ = process.communicate(timeout=200)
        assert process.returncode == 0
        assert [line.split() for line in out.splitlines()] == [expected] * 5
    assert not list(tmp_path.glob(".tmp-*"))
