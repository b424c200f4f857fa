"""Whatever is damaged in a source of images, opening and reading it gives records or one clear error."""

import io
import json
import random
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailforge.catalog.images.reader import open_images
from tailforge.schemas.errors import UserError
from tests.support.image_files import encode, put, shade

DAMAGES = 150


def write_parquet(folder: Path) -> Path:
    images = [encode(shade(row)) for row in range(40)]
    columns = {"image": images, "label": ["a", "b"] * 20, "split": ["train"] * 40, "mask": images}
    pq.write_table(pa.table(columns), folder / "a.parquet", row_group_size=16)
    return folder / "a.parquet"


def write_arrow(folder: Path) -> Path:
    table = pa.table({"image": [encode(shade(row)) for row in range(20)], "label": [0, 1] * 10})
    with pa.ipc.new_stream(folder / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}]}))
    return folder / "a.arrow"


def write_csv(folder: Path) -> Path:
    rows = [f"{row}.png,label {row % 3},train,{row},a text\n" for row in range(10)]
    for row in range(10):
        put(folder / f"{row}.png", row)
    (folder / "a.csv").write_text("".join(["file_name,label,split,group,caption\n", *rows]))
    return folder / "a.csv"


def write_coco(folder: Path) -> Path:
    put(folder / "0.png")
    square = [[1.5, 1, 3, 1, 3, 3, 1, 3]]
    document = {
        "images": [{"id": 0, "file_name": "0.png", "width": 6, "height": 4}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 1, 2, 2], "segmentation": square}],
        "categories": [{"id": 1, "name": "gear", "supercategory": "part"}],
    }
    (folder / "a.json").write_text(json.dumps(document))
    return folder / "a.json"


def write_tar(folder: Path) -> Path:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in (("0.png", encode(shade(1))), ("0.cls", b"1"), ("0.json", b'{"caption": "x"}')):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder / "a.tar"


def write_metadata(folder: Path) -> Path:
    for row in range(3):
        put(folder / f"{row}.png", row)
    lines = [json.dumps({"file_name": f"{row}.png", "label": row, "text": "a text"}) for row in range(3)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder / "metadata.jsonl"


def read_everything(source: Path) -> None:
    images = open_images(source)
    for record in images:
        record.read_mask()
        assert len(record.instances) >= 0
    assert len(list(images.stream())) == len(images)
    images.readable().with_labels().with_captions()


WRITERS = [write_parquet, write_arrow, write_csv, write_coco, write_tar, write_metadata]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__.removeprefix("write_"))
def test_damage_is_one_clear_error(write: Callable[[Path], Path], tmp_path: Path) -> None:
    file = write(tmp_path)
    source = file if write in (write_parquet, write_csv, write_coco, write_tar) else tmp_path
    read = 0
    whole, draws = file.read_bytes(), random.Random(0)
    for number in range(DAMAGES):
        damaged = bytearray(whole)
        for _ in range(draws.randint(1, 6)):
            damaged[draws.randrange(len(damaged))] = draws.randrange(256)
        file.write_bytes(bytes(damaged) if number % 5 else whole[: draws.randrange(len(whole))])
        with suppress(UserError):
            read_everything(source)
            read += 1
    file.write_bytes(whole)
    if write is not write_parquet:
        read_everything(source)
    assert read < DAMAGES
