"""COCO instances and captions (https://cocodataset.org/#format-data): masks as compressed run lengths.

A category's id is its value in the version's masks, class + 1 for a class. Boxes are [x, y, width, height] in pixels.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

from tailforge.catalog.exports.pieces import Document, Piece, Row, Splits, WholeFile
from tailforge.catalog.exports.samples import ExportedSample
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.settings.licences import describe_licence

LISTS = ("images", "annotations")
LICENSE = 1  # the id of the only one


def convert_coco(dataset: Dataset, splits: Splits) -> Iterator[Piece]:
    """images/SPLIT/, annotations/instances_SPLIT.json and annotations/captions_SPLIT.json."""
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
    """What all COCO documents of a version begin with."""
    recipe = dataset.recipe
    info = {
        "description": f"{dataset.name} {dataset.version}: {recipe['description']}",
        "version": dataset.version,
        "year": int(dataset.created[:4]),
        "contributor": recipe["creator"],
        "date_created": dataset.created,
    }
    licence = describe_licence(recipe["license"])
    return {"info": info, "licenses": [{"id": LICENSE, "name": licence.name, "url": licence.url or ""}]}


def list_categories(dataset: Dataset) -> list[dict[str, Any]]:
    """What values of the version's masks mean: things, then stuff."""
    return [
        {"id": number, "name": category.name, "supercategory": dataset.name, "isthing": int(category.thing)}
        for number, category in enumerate(dataset.mask_categories, 1)
    ]


def describe_image(sample: ExportedSample) -> dict[str, Any]:
    """A row of `images`; the file's name is told from its split's folder."""
    size = {"width": sample.width, "height": sample.height}
    return {"id": sample.number, "file_name": sample.file_name, **size, "license": LICENSE}


def _list_instances(sample: ExportedSample, numbers: Iterator[int]) -> Iterator[dict[str, Any]]:
    for instance in sample.instances:
        yield {
            "id": next(numbers),
            "image_id": sample.number,
            "category_id": instance["category_id"],
            "segmentation": {"size": [sample.height, sample.width], "counts": instance["rle"]},
            "bbox": instance["bbox"],
            "area": instance["area"],
            "iscrowd": 0,
            "score": instance["score"],  # the annotation's confidence; readers of COCO pass over keys they do not know
        }
