"""Folders and Parquet files of captioned images, as the tests of what a generator learns from write and open them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailforge.catalog.images.pixels import BATCH
from tailforge.schemas.training.generator import ImageSource
from tailforge.tasks.images.captioned import CaptionedImages, open_captioned
from tests.support.fabricate import encode_png

PIXELS = 16


def picture(shade: int, height: int = PIXELS, width: int = PIXELS) -> NDArray[np.uint8]:
    """Rows that grow darker, so that no two shades and no two rows are alike."""
    rows = np.arange(height, dtype=np.uint8)[:, None, None]
    return np.broadcast_to(shade + rows, (height, width, 3)).copy()


def save(file: Path, shade: int, caption: str | None = None, **size: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode_png(picture(shade, **size)))
    if caption is not None:
        file.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return file


def tell(name: str, caption: str | None) -> bytes:
    """A line of metadata.jsonl."""
    return json.dumps({"file_name": name, "text": caption}).encode() + b"\n"


def open_folder(folder: Path, seed: int = 0, **source: Any) -> CaptionedImages:
    """Of the folder `images` in a recipe's folder."""
    return open_captioned(ImageSource(folder="images", **source), folder, seed)


def write_rows(file: Path, images: list[Any], **columns: Any) -> Path:
    pq.write_table(pa.table({"image": images, **columns}), file, row_group_size=BATCH + 8)
    return file
