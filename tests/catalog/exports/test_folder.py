"""An export is there whole or not at all, and what stops it is told in one message."""

import builtins
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailforge.catalog.exports.export import FORMATS, export_version
from tailforge.catalog.exports.pieces import Piece, Splits, WholeFile
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.errors import (
    NotFoundError,
    StoreAccessError,
    StoreFullError,
    TailforgeError,
    UserError,
    VerificationError,
)
from tests.support.drawn_version import NAME, draw_masks, write_version


@pytest.fixture
def damaged(published: Store, tmp_path: Path) -> Store:
    """A copy of the published store, to be damaged."""
    shutil.copytree(published.uri, tmp_path / "store")
    return Store.open(str(tmp_path / "store"))


def refuse(error: type[TailforgeError], message: str, store: Store, target: Path, **changes: Any) -> None:
    """Export, expect an error, and find nothing of the export beside `target`."""
    words: dict[str, Any] = {"name": "parts", "version": "latest", "format_name": "coco", "splits": ()} | changes
    before = sorted(target.parent.iterdir()) if target.parent.is_dir() else None
    with pytest.raises(error, match=message):
        export_version(store, words["name"], words["version"], words["format_name"], target, words["splits"])
    assert (sorted(target.parent.iterdir()) if target.parent.is_dir() else None) == before


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_published_version_is_exported(published: Store, tmp_path: Path, format_name: str) -> None:
    made = export_version(published, "parts", "latest", format_name, tmp_path / "out")
    assert (made["name"], made["version"], made["format"]) == ("parts", "1.0.0", format_name)
    assert made["splits"] == {"test": 11, "train": 42}
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == made["files"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "bolts"}, "has no dataset 'bolts'"),
        ({"version": "9.0.0"}, "has no version '9.0.0'; it has: 1.0.0"),
        ({"splits": ["train", "validation"]}, "has no split 'validation'; it has: test, train"),
        ({"format_name": "kitti"}, "no format 'kitti'; choose one of coco, panoptic, yolo, voc"),
    ],
)
def test_what_does_not_exist_is_explained(
    published: Store, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    refuse(NotFoundError, message, published, tmp_path / "out", **changes)


def test_what_exists_is_never_touched(published: Store, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "file", "link"):
        refuse(UserError, f"{name} exists already", published, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_folder_above_must_exist(published: Store, tmp_path: Path) -> None:
    refuse(NotFoundError, "does not exist; make it first", published, tmp_path / "no" / "out")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder where nobody may write")
def test_a_folder_where_one_may_not_write_is_refused(published: Store) -> None:
    refuse(StoreAccessError, "name a folder where you may write", published, Path("/sys/kernel/out"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("at", ["image", "rows", "document"])
def test_a_full_disk_leaves_nothing(published: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    end = {"image": ".png", "rows": ".images", "document": "_train.json"}[at]

    def open_(path: Any, mode: str = "r") -> Any:
        return (
            builtins.open("/dev/full", "wb") if "x" in mode and str(path).endswith(end) else builtins.open(path, mode)
        )

    monkeypatch.setattr("tailforge.catalog.exports.folder.open", open_, raising=False)
    refuse(StoreFullError, "the disk is full: free some space", published, tmp_path / "out")


def test_an_interrupted_export_leaves_nothing(
    published: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(dataset: Dataset, splits: Splits) -> Iterator[Piece]:
        yield WholeFile("images/a.png", b"a")
        raise KeyboardInterrupt

    monkeypatch.setitem(FORMATS, "coco", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_version(published, "parts", "latest", "coco", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_came_meanwhile_is_kept(
    published: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(dataset: Dataset, splits: Splits) -> Iterator[Piece]:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine").write_text("mine")
        yield WholeFile("a", b"a")

    monkeypatch.setitem(FORMATS, "coco", slow)
    with pytest.raises(TailforgeError, match="cannot write --out"):
        export_version(published, "parts", "latest", "coco", tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["out", "out/mine"]


def test_a_damaged_version_is_not_exported(damaged: Store, tmp_path: Path) -> None:
    shard = Path(damaged.path("datasets/parts/1.0.0/shards/train-000001.tar"))
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data[:5000])
    refuse(VerificationError, r"train-000001\.tar", damaged, tmp_path / "out")
    shard.write_bytes(data[: data.index(b".attn.npy") - 16] + bytes(10240))
    refuse(VerificationError, r"train-000001\.tar: cut off", damaged, tmp_path / "out")
    shard.unlink()
    refuse(VerificationError, r"train-000001\.tar is missing", damaged, tmp_path / "out")


@pytest.mark.parametrize(
    ("format_name", "member", "field"),
    [
        ("coco", "png", b".png\0"),
        ("panoptic", "json", b'"rle":"'),
        ("yolo", "png", b".png\0"),
        ("voc", "seg.png", b".seg.png\0"),
        ("imagefolder", "png", b".png\0"),
        ("huggingface", "png", b".png\0"),
    ],
)
def test_a_damaged_sample_is_not_exported(
    damaged: Store, tmp_path: Path, format_name: str, member: str, field: bytes
) -> None:
    shard = Path(damaged.path("datasets/parts/1.0.0/shards/train-000001.tar"))
    data = bytearray(shard.read_bytes())
    start = data.index(field) + len(field)
    start += 512 if field.endswith(b"\0") else 0
    data[start + 20 : start + 21] = b"3"
    os.unlink(shard)
    shard.write_bytes(data)
    message = rf"train-000001\.tar: \w+\.{member} has sha256"
    refuse(VerificationError, message, damaged, tmp_path / "out", format_name=format_name)


@pytest.mark.parametrize("keys", ["/nowhere/{:016x}", "images/{:016x}", "{:015x}"])
def test_a_version_cannot_write_elsewhere(tmp_path: Path, keys: str) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    write_version(store, {"train": draw_masks()}, keys=keys)
    refuse(VerificationError, "sample ids are 16 hex digits", store, tmp_path / "out", name=NAME)


def test_an_image_with_no_instance_is_exported(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"), create=True)
    write_version(store, {"train": [np.zeros((4, 5), np.uint8)]})
    for format_name in FORMATS:
        assert export_version(store, NAME, "latest", format_name, tmp_path / format_name)["splits"] == {"train": 1}
