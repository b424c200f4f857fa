"""PASCAL VOC (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf): boxes as XML, masks as indexed PNG.

Values of a mask: 0 background, categories (class + 1 for a class), 255 void, in the devkit's colours. Boxes are in
pixels, counted from 1, and include both ends. Crowds are `difficult`, so evaluations leave them out. Images keep their
published format, so JPEGImages/ may contain PNG files.
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
    """Yield JPEGImages/, Annotations/, SegmentationClass/, ImageSets/ and labels.txt.

    Line n of labels.txt, from 0, names value n of the masks. The format's name of split `validation` is val.
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
    """Return the XML of an image and its boxes."""
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
    """Return the mask in VOC's colours: its own bytes if it has them, else a new PNG. Errors: VerificationError."""
    image = sample.open_mask()
    if image.getpalette() == voc_palette():
        return sample.mask
    image.putpalette(voc_palette())
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@cache
def voc_palette() -> list[int]:
    """Return the 256 RGB colours of the devkit: bit 3k+c of the index becomes bit 7-k of channel c."""
    return [
        sum((index >> (3 * k + channel) & 1) << (7 - k) for k in range(8))
        for index in range(256)
        for channel in range(3)
    ]


def _describe_instance(instance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `object` of an instance."""
    x, y, width, height = instance["bbox"]
    low = {"xmin": math.floor(x) + 1, "ymin": math.floor(y) + 1}
    high = {"xmax": math.ceil(x + width), "ymax": math.ceil(y + height)}
    known = {"name": instance["category"], "pose": "Unspecified", "truncated": 0}
    return {**known, "difficult": int(instance["crowd"]), "bndbox": low | high}


def _add(parent: ElementTree.Element, content: Mapping[str, Any]) -> None:
    """Add one element per key; nested mappings become nested elements."""
    for name, value in content.items():
        element = ElementTree.SubElement(parent, name)
        if isinstance(value, Mapping):
            _add(element, value)
        else:
            element.text = visible(str(value))  # XML forbids control characters
