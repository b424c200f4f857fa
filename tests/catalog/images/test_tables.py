"""CSV and Parquet tables of images: bytes and paths, every column, and every way to be wrong."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.tables import Columns
from tailforge.schemas.errors import ImagesError
from tests.support.image_files import encode, put, red_of, shade
from tests.support.repository import ROOT

ROWS = 100
NAMED = os.environ.get("SOLAR_INFRARED")
SOLAR = Path(NAMED or ROOT.parent / "shared/data/solar_infrared.parquet")


def write_table(file: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), file, row_group_size=40)
    return file


def test_parquet_rows_are_read_in_any_order(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.parquet", image=[encode(shade(row)) for row in range(ROWS)])
    images = open_images(file)
    assert [red_of(record.read_bytes()) for record in images] == list(range(ROWS))
    assert [red_of(images.read(row)) for row in (99, 3, 3, 50, 41, 0, 98)] == [99, 3, 3, 50, 41, 0, 98]
    assert [red_of(data) for data in images.stream([2, 39, 40, 99])] == [2, 39, 40, 99]
    assert [red_of(data) for data in images.stream([40, 2])] == [40, 2]
    assert [red_of(data) for data in images.select([7, 80]).stream()] == [7, 80]


def test_threads_read_one_table_at_the_same_time(tmp_path: Path) -> None:
    images = open_images(write_table(tmp_path / "a.parquet", image=[encode(shade(row)) for row in range(ROWS)]))
    orders = [np.random.default_rng(seed).permutation(ROWS).tolist() for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda order: [red_of(images[row].read_bytes()) for row in order], orders))
    assert found == orders


def test_all_columns_of_a_parquet_file(tmp_path: Path) -> None:
    masks = [encode(Image.fromarray(np.full((4, 6), row, np.uint8))) for row in (1, 2)]
    images = open_images(
        write_table(
            tmp_path / "a.parquet",
            image=[encode(shade(0)), encode(shade(1, "L"))],
            label=["gear", "hook"],
            split=["train", "val"],
            group=[7, 8],
            caption=["a gear", None],
            mask=[masks[0], None],
            id=["x", "y"],
        )
    )
    assert images.ids == ("x", "y")
    assert images.labels == ("gear", "hook")
    assert images.groups == ("7", "8")
    assert images.captions == ("a gear", None)
    assert images.of_split("validation").ids == ("y",)
    assert [record.channels for record in images] == [3, 1]
    mask = images[0].read_mask()
    assert mask is not None
    assert mask.shape == (4, 6)
    assert (mask == 1).all()
    assert images[1].read_mask() is None


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_paths_are_relative_to_the_table_or_to_a_folder(tmp_path: Path, suffix: str) -> None:
    for number, name in enumerate(("a.png", "in/b.png")):
        put(tmp_path / "photos" / name, number)
    Image.fromarray(np.ones((4, 6), np.uint8)).save(tmp_path / "photos/mask.png")
    rows = [("file_name", "label", "mask"), ("a.png", "NA", "mask.png"), ("in/b.png", "02", "")]
    for folder in (tmp_path, tmp_path / "photos"):
        file = folder / f"table.{suffix}"
        if suffix == "parquet":
            names, *values = rows
            write_table(file, **{name: [row[k] or None for row in values] for k, name in enumerate(names)})
        else:
            file.write_text(
                "\n".join({"csv": ",", "tsv": "\t"}[suffix].join(row) for row in rows), encoding="utf-8-sig"
            )
        images = open_images(file, root=tmp_path / "photos")
        assert images.labels == ("NA", "02")
        assert [red_of(data) for data in images.stream()] == [0, 1]
        mask = images[0].read_mask()
        assert mask is not None
        assert mask.min() == 1
        assert images[1].read_mask() is None


def test_files_that_are_missing_or_elsewhere_are_reported(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    put(folder / "a.png")
    outside = put(tmp_path / "b.png")
    (folder / "link.png").symlink_to(outside)
    names = ["a.png", "../b.png", str(outside), "link.png", "no.png", "", "a\\b.png", "a\0.png"]
    images = open_images(write_table(folder / "a.parquet", image=names))
    assert images.ids == ("0",)
    report = images.left_out.describe()
    assert "path that leaves the folder: 2" in report
    assert "link that leaves the folder: 1" in report
    assert "missing file: 4" in report
    with pytest.raises(ImagesError, match=r"row 1: .*b\.png leaves .*; copy the file into the folder"):
        images.left_out.refuse()


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.parquet", photo=[encode(shade(5))], kind=["gear"], label=["no"])
    images = open_images(file, columns=Columns(image="photo", label="kind"))
    assert images.labels == ("gear",)
    with pytest.raises(ImagesError, match="has no column 'sort'; it has: photo, kind, label"):
        open_images(file, columns=Columns(image="photo", label="sort"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r"a\.csv cannot be read as CSV: "),
        ("a.csv", b"label\ngear\n", r"a\.csv has no column 'image'; it has: label"),
        ("a.csv", b"image,label\n", r"a\.csv has no rows"),
        ("a.csv", b"image,label,label\na.png,x,y\n", r"a\.csv gives two columns one name; it has: image, label, label"),
        ("a.csv", b"image,label\na.png\n", r"a\.csv cannot be read as CSV: .*Expected 2 columns, got 1"),
        ("a.csv", b"image,label\na.png,\xff\xfe\n", r"a\.csv cannot be read as CSV: .*UTF"),
        ("a.csv", b"image,label\na.png,gear\n", r"no file that column image names can be used; .*a\.png is no file"),
        ("a.csv", b"image,split\na.png,train\nb.png,\n", r"row 1 \(from 0\) has no split"),
        ("a.parquet", b"PAR1 no", r"a\.parquet cannot be read as Parquet"),
        ("a.txt", b"some text", r"a\.txt cannot be read as Parquet"),
    ],
)
def test_tables_that_cannot_be_used_give_one_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImagesError, match=message):
        open_images(tmp_path / name)


def test_a_mask_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.parquet", image=[encode(shade(1))] * 2, mask=[b"no", encode(shade(1))])
    images = open_images(file)
    with pytest.raises(ImagesError, match=r"row 0: mask cannot be read as a mask: it is no BMP, PNG or TIFF file"):
        images[0].read_mask()
    with pytest.raises(ImagesError, match=r"row 1: mask cannot be read as a mask: .* mode RGB"):
        images[1].read_mask()


@pytest.mark.skipif(not SOLAR.is_file(), reason=f"needs {SOLAR.name}: name it by SOLAR_INFRARED")
def test_a_published_set_of_grey_photographs() -> None:
    images = open_images(SOLAR)
    assert {split: len(images.of_split(split)) for split in ("train", "val", "test")} == {
        "train": 9971,
        "val": 2003,
        "test": 3999,
    }
    train = images.of_split("train")
    assert len(set(train.require_labels())) == 12
    assert {train[place].channels for place in range(0, 1000, 100)} == {1}
    picture = train[9000].open_image()
    assert (picture.mode, picture.size) == ("L", (24, 40))


def test_only_images_that_are_files_have_a_path(tmp_path: Path) -> None:
    put(tmp_path / "gear" / "a.png")
    (tmp_path / "table.csv").write_text("path\ngear/a.png\n")
    table = write_table(tmp_path / "bytes.parquet", image=[encode(shade(1))])
    assert open_images(tmp_path / "table.csv").file_of(0) == str(tmp_path / "gear" / "a.png")
    assert open_images(table).file_of(0) is None
