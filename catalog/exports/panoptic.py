"""COCO panoptic segmentation (https://cocodataset.org/#format-data): every pixel belongs to one segment, or is void.

A segment's id is R + 256 G + 256^2 B in its PNG. 0 is void and stands for ignored pixels (255). Background is a
category of its own without instances ("stuff"). Tailforge chose its id, the next after all others.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.exports.coco import LISTS, describe_dataset, describe_image, list_categories
from tailforge.catalog.exports.pieces import Document, Piece, Row, Splits, WholeFile
from tailforge.catalog.exports.samples import ExportedSample
from tailforge.schemas.dataset import Dataset

IGNORE = 255


def convert_panoptic(dataset: Dataset, splits: Splits) -> Iterator[Piece]:
    """Yield images/SPLIT/, annotations/panoptic_SPLIT.json and annotations/panoptic_SPLIT/ with the PNGs."""
    background = len(dataset.mask_categories) + 1
    head = describe_dataset(dataset) | {"categories": _list_categories(dataset, background)}
    for split, samples in splits.items():
        document = f"annotations/panoptic_{split}.json"
        yield Document(document, head, LISTS)
        for sample in samples:
            segments, rows = find_segments(sample, background)
            name = f"{sample.key}.png"
            yield WholeFile(f"images/{split}/{sample.file_name}", sample.image)
            yield WholeFile(f"annotations/panoptic_{split}/{name}", encode_segments(segments))
            yield Row(document, "images", describe_image(sample))
            yield Row(document, "annotations", {"image_id": sample.number, "file_name": name, "segments_info": rows})


def find_segments(sample: ExportedSample, background: int) -> tuple[NDArray[np.uint32], list[dict[str, Any]]]:
    """Return segment ids [height, width] and their rows of `segments_info`.

    The mask decides the category of a pixel, and the instances decide its segment. The first of overlapping instances
    gets the pixel. Pixels of a category outside all its instances form one more segment. Errors: VerificationError.
    """
    mask = np.asarray(sample.open_mask())
    segments = np.zeros(mask.shape, np.uint32)
    rows: list[dict[str, Any]] = []

    def add(region: NDArray[np.bool_], category: int, crowd: bool = False) -> None:
        """Add a segment, unless its region is empty."""
        if region.any():
            segments[region] = len(rows) + 1
            rows.append(_describe_segment(region, len(rows) + 1, category) | {"iscrowd": int(crowd)})

    for value in (int(value) for value in np.unique(mask)):
        if value == IGNORE:
            continue
        left = mask == value
        for instance in sample.instances:
            if instance["category_id"] == value:
                own = sample.region(instance) & left
                add(own, value, instance["crowd"])
                left &= ~own
        add(left, value or background)
    return segments, rows


def encode_segments(segments: NDArray[np.uint32]) -> bytes:
    """Return an RGB PNG of ids [height, width] below 2^24."""
    channels = np.stack([segments >> shift & 255 for shift in (0, 8, 16)], axis=-1)
    out = io.BytesIO()
    Image.fromarray(channels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def _list_categories(dataset: Dataset, background: int) -> list[dict[str, Any]]:
    """Return the categories of the masks, and the background."""
    stuff = {"id": background, "name": "background", "supercategory": "background", "isthing": 0}
    return [*list_categories(dataset), stuff]


def _describe_segment(region: NDArray[np.bool_], number: int, category: int) -> dict[str, Any]:
    """Return the row of a region [height, width]; the box is in pixels."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "id": number,
        "category_id": category,
        "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        "area": int(region.sum()),
    }
