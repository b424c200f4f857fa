"""PASCAL VOC (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf): boxes as XML, masks as indexed PNG.

Values of a mask: 0 background, categories (class + 1 for a class), 255 void, in the devkit's colours. Boxes are pixels
counted from 1, both ends inside. Images keep the format that they were published in, so JPEGImages/ holds PNG files for
a version of PNGs.
"""

import io
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from xml.etree import ElementTree

from tailforge.catalog.exports.pieces import Line, Piece, Splits, WholeFile
from tailforge.catalog.exports.samples import ExportedSample
from tailforge.catalog.reading.index import SHORT_NAMES
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.shown import visible


def convert_voc(dataset: Dataset, splits: Splits) -> Iterator[Piece]:
    """JPEGImages/, Annotations/, SegmentationClass/, ImageSets/ and labels.txt.

    Line n of labels.txt, from 0, is what value n means. Split `validation` is called val, as this format does.
    """
    yield WholeFile(
        "labels.txt",
        "".join(f"{name}\n" for name in ("background", *(each.name for each in dataset.mask_categories))).encode(),
    )
    for split, samples in splits.items():
        for sample in samples:
            yield WholeFile(f"JPEGImages/{sample.file_name}", sample.image)
            yield WholeFile(f"Annotations/{sample.key}.xml", describe_sample(dataset, sample))
            yield WholeFile(f"SegmentationClass/{sample.key}.png", colour_mask(sample))
            for purpose in ("Segmentation", "Main"):
                yield Line(f"ImageSets/{purpose}/{SHORT_NAMES.get(split, split)}.txt", sample.key)


def describe_sample(dataset: Dataset, sample: ExportedSample) -> bytes:
    """The XML of an image and its boxes."""
    root = ElementTree.Element("annotation")
    database = f"{dataset.name} {dataset.version}"
    size = {"width": sample.width, "height": sample.height, "depth": 3}
    _add(root, {"folder": dataset.name, "filename": sample.file_name, "source": {"database": database}})
    _add(root, {"size": size, "segmented": 1})
    for instance in sample.things(dataset):
        _add(root, {"object": _describe_instance(instance)})
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8")
    return document + b"\n"


def colour_mask(sample: ExportedSample) -> bytes:
    """The mask's own file where it has VOC's colours, as all but empty ones do; else the same values with them."""
    image = sample.open_mask()
    if image.getpalette() == voc_palette():
        return sample.mask
    image.putpalette(voc_palette())
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@cache
def voc_palette() -> list[int]:
    """Red, green, blue of 256 classes: bit 3k+c of the number becomes bit 7-k of channel c."""
    return [
        sum((index >> (3 * k + channel) & 1) << (7 - k) for k in range(8))
        for index in range(256)
        for channel in range(3)
    ]


def _describe_instance(instance: Mapping[str, Any]) -> dict[str, Any]:
    x, y, width, height = instance["bbox"]
    low = {"xmin": math.floor(x) + 1, "ymin": math.floor(y) + 1}
    high = {"xmax": math.ceil(x + width), "ymax": math.ceil(y + height)}
    return {"name": instance["category"], "pose": "Unspecified", "truncated": 0, "difficult": 0, "bndbox": low | high}


def _add(parent: ElementTree.Element, content: Mapping[str, Any]) -> None:
    """One element a key; nested mappings are nested elements."""
    for name, value in content.items():
        element = ElementTree.SubElement(parent, name)
        if isinstance(value, Mapping):
            _add(element, value)
        else:
            element.text = visible(str(value))  # XML takes no control characters
