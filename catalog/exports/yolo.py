"""YOLO detection in the format of Ultralytics (https://docs.ultralytics.com/datasets/detect/).

One line per box: class, centre and size, as fractions of the image. Classes count from 0, like the version's.
data.yaml has no `path`, so Ultralytics uses the file's own folder, and users may move the export. The format has no
crowds. They get no box, as in Ultralytics' own converter of COCO.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tailforge.catalog.exports.pieces import Piece, Splits, WholeFile
from tailforge.catalog.exports.samples import ExportedSample
from tailforge.catalog.reading.index import SHORT_NAMES
from tailforge.schemas.dataset import Dataset


def convert_yolo(dataset: Dataset, splits: Splits) -> Iterator[Piece]:
    """Yield data.yaml, images/SPLIT/ and labels/SPLIT/. The format's name of split `validation` is val."""
    names = [category.name for category in dataset.mask_categories if category.thing]  # stuff comes last and has no box
    folders = {split: SHORT_NAMES.get(split, split) for split in splits}
    card = {folder: f"images/{folder}" for folder in folders.values()} | {"names": dict(enumerate(names))}
    yield WholeFile("data.yaml", yaml.safe_dump(card, sort_keys=False, allow_unicode=True).encode())
    for split, samples in splits.items():
        for sample in samples:
            yield WholeFile(f"images/{folders[split]}/{sample.file_name}", sample.image)
            boxed = [instance for instance in sample.things(dataset) if not instance["crowd"]]
            lines = "".join(f"{describe_box(sample, instance)}\n" for instance in boxed)
            yield WholeFile(f"labels/{folders[split]}/{sample.key}.txt", lines.encode())


def describe_box(sample: ExportedSample, instance: Mapping[str, Any]) -> str:
    """Return the line of an instance. Eight digits are exact to a thousandth of a pixel in any image."""
    x, y, width, height = instance["bbox"]
    centre = ((x + width / 2) / sample.width, (y + height / 2) / sample.height)
    numbers = (*centre, width / sample.width, height / sample.height)
    return " ".join([str(instance["category_id"] - 1), *(f"{number:.8f}" for number in numbers)])
