"""WebDataset tars: written by the library itself and by tarfile, in shards, and every way to be wrong."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ImagesError
from tests.support.drawn_version import NAME, draw_masks, write_version
from tests.support.image_files import encode, red_of, shade


def write_samples(file: Path, *samples: dict[str, Any]) -> Path:
    """Write samples as the library does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(file), encoder=False) as writer:
        for sample in samples:
            writer.write(sample)
    return file


def write_members(file: Path, members: dict[str, bytes], **header: Any) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in header.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return file


def test_samples_of_a_tar(tmp_path: Path) -> None:
    mask = encode(Image.fromarray(np.full((4, 6), 3, np.uint8)))
    told = {"label": "ring", "split": "test", "group": 7, "caption": "a ring", "score": 1.5}
    file = write_samples(
        tmp_path / "a.tar",
        {"__key__": "one", "png": encode(shade(1)), "cls": b"gear\n", "txt": b"a gear", "seg.png": mask},
        {"__key__": "in/two", "JPG": encode(shade(2, "L"), "JPEG"), "json": json.dumps(told).encode()},
        {"__key__": "three", "txt": b"no image"},
    )
    images = open_images(file)
    assert images.ids == ("one", "in/two")
    assert images.labels == ("gear", "ring")
    assert images.captions == ("a gear", "a ring")
    assert images.splits == (None, "test")
    assert images.groups == (None, "7")
    assert [record.channels for record in images] == [3, 1]
    found = images[0].read_mask()
    assert found is not None
    assert (found == 3).all()
    assert images[1].read_mask() is None
    assert images.left_out.lines() == [f"sample of a tar without an image: 1 ({file}: three)"]


def test_a_folder_of_shards_has_splits(tmp_path: Path) -> None:
    for split, numbers in (("train", (0, 1)), ("val", (2,))):
        for shard in range(2):
            samples = [
                {"__key__": f"{number}", "png": encode(shade(10 * shard + number)), "cls": str(number).encode()}
                for number in numbers
            ]
            write_samples(tmp_path / f"{split}-{shard:06d}.tar", *samples)
    images = open_images(tmp_path)
    train = images.of_split("train")
    assert train.ids == tuple(f"train-{shard:06d}.tar/{number}" for shard in range(2) for number in range(2))
    assert [red_of(data) for data in train.stream()] == [0, 1, 10, 11]
    assert [red_of(data) for data in train.stream([3, 0, 2])] == [11, 0, 10]
    assert images.of_split("validation").labels == ("2", "2")


def test_shards_of_a_version_are_tars(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    write_version(store, {"train": draw_masks()})
    tar = open_images(tmp_path / f"datasets/{NAME}/1.0.0/shards/train-000000.tar")
    version = open_images(tmp_path / f"datasets/{NAME}/1.0.0")
    assert tar.captions == version.captions
    assert list(tar.stream()) == list(version.stream())
    assert all(np.array_equal(a.read_mask(), b.read_mask()) for a, b in zip(tar, version, strict=True))


def test_links_and_hidden_members_are_left_out(tmp_path: Path) -> None:
    members = {"a.png": encode(shade(1)), "./._a.png": b"x", "dir/.b.png": b"x", "noextension": b"x"}
    images = open_images(write_members(tmp_path / "a.tar", members))
    assert images.ids == ("a",)
    assert "file that is no picture: 3" in images.left_out.describe()
    with pytest.raises(ImagesError, match="holds no image"):
        open_images(write_members(tmp_path / "b.tar", members, type=tarfile.SYMTYPE, linkname="/etc/passwd"))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "holds no image; give a tar with samples such as 000.jpg"),
        ({"a.png": b"x", "a.json": b"no"}, r"a\.tar: a\.json cannot be read as JSON"),
        ({"a.png": b"x", "a.txt": b"\xff"}, r"a\.tar: a\.txt is no text in UTF-8"),
        ({"a.png": b"x", "a.cls": b"1" * (2**20 + 1)}, r"a\.cls has 1,048,577 bytes; a text has 1,048,576 at most"),
        ({"a.png": b"x", "a.PNG": b"x"}, r"holds a\.PNG twice"),
    ],
)
def test_tars_that_cannot_be_used_give_one_error(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(ImagesError, match=message):
        open_images(write_members(tmp_path / "a.tar", members))


def test_a_tar_that_is_compressed_or_cut_off_is_refused(tmp_path: Path) -> None:
    whole = write_members(tmp_path / "whole.tar", {"a.png": encode(shade(1)), "b.png": encode(shade(2))}).read_bytes()
    with tarfile.open(tmp_path / "packed.tar", "w:gz"):
        pass
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    (tmp_path / "none.tar").write_bytes(b"no tar at all" * 100)
    for name in ("packed", "cut", "none"):
        with pytest.raises(ImagesError, match=rf"{name}\.tar cannot be read as a tar: .*plain, uncompressed tar"):
            open_images(tmp_path / f"{name}.tar")


def test_a_split_in_some_names_only_is_refused(tmp_path: Path) -> None:
    for name in ("train-0", "other-0"):
        write_samples(tmp_path / f"{name}.tar", {"__key__": "a", "png": encode(shade(1))})
    with pytest.raises(ImagesError, match=r"the name of other-0\.tar tells no split, and others do"):
        open_images(tmp_path)
