"""COCO instances and captions (https://cocodataset.org/#format-data): masks as compressed run lengths.

A category's id is its value in the version's masks, class + 1 for a class. Boxes are [x, y, width, height] in pixels.
Crowds have `iscrowd` 1, by which readers leave them out of training and evaluations forgive what is found there.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

from tailforge.catalog.exports.pieces import Document, Piece, Row, Splits, WholeFile
from tailforge.catalog.exports.samples import ExportedSample
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.settings.licences import describe_licence

LISTS = ("images", "annotations")
LICENSE = 1  # id of the only licence


def convert_coco(dataset: Dataset, splits: Splits) -> Iterator[Piece]:
    """Yield images/SPLIT/, annotations/instances_SPLIT.json and annotations/captions_SPLIT.json."""
    head, numbers = describe_dataset(dataset), count(1)

    for split, samples in splits.items():
        instances, captions = f"annotations/instances_{split}.json", f"annotations/captions_{split}.json"
        yield Document(instances, head | {"categories": list_categories(dataset)}, LISTS)
        yield Document(captions, head, LISTS)

        for sample in samples:
            yield WholeFile(f"images/{split}/{sample.file_name}", sample.image)
            yield Row(instances, "images", describe_image(sample))
            yield Row(captions, "images", describe_image(sample))
            caption = {"id": sample.number, "image_id": sample.number, "caption": sample.caption}
            yield Row(captions, "annotations", caption)
            for row in _list_instances(sample, numbers):
                yield Row(instances, "annotations", row)


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """Return the keys `info` and `licenses` of all COCO documents of a version."""
    recipe = dataset.recipe
    info = {
        "description": f"{dataset.name} {dataset.version}: {recipe['description']}",
        "version": dataset.version,
        "year": int(dataset.created[:4]),
        "contributor": recipe["creator"],
        "date_created": dataset.created,
    }
    licence = describe_licence(dataset.license)
    return {"info": info, "licenses": [{"id": LICENSE, "name": licence.name, "url": licence.url or ""}]}


def list_categories(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the categories of the version's masks: things, then stuff."""
    return [
        {"id": number, "name": category.name, "supercategory": dataset.name, "isthing": int(category.thing)}
        for number, category in enumerate(dataset.mask_categories, 1)
    ]


def describe_image(sample: ExportedSample) -> dict[str, Any]:
    """Return a row of `images`. The file name is relative to the split's folder."""
    size = {"width": sample.width, "height": sample.height}
    return {"id": sample.number, "file_name": sample.file_name, **size, "license": LICENSE}


def _list_instances(sample: ExportedSample, numbers: Iterator[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `annotations` of one sample."""
    for instance in sample.instances:
        yield {
            "id": next(numbers),
            "image_id": sample.number,
            "category_id": instance["category_id"],
            "segmentation": {"size": [sample.height, sample.width], "counts": instance["rle"]},
            "bbox": instance["bbox"],
            "area": instance["area"],
            "iscrowd": int(instance["crowd"]),
            "score": instance["score"],  # confidence, 0..1; readers of COCO ignore unknown keys
        }
