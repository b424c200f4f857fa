"""Folders of classes as torchvision's ImageFolder and Hugging Face's imagefolder read them, with captions beside them.

https://huggingface.co/docs/datasets/image_dataset#imagefolder: `metadata.jsonl` names images relative to its folder.
"""

import json
import re
from collections.abc import Iterator, Sequence

from tailforge.catalog.exports.pieces import Line, Piece, Splits, WholeFile
from tailforge.catalog.images.captions import METADATA_FILES
from tailforge.schemas.dataset import Dataset

UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')  # characters that some file system refuses
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?|__macosx|\$recycle\.bin|system volume information")
MOST_BYTES = 200  # of a folder's name; file systems take 255
README = "README.md"


def convert_imagefolder(dataset: Dataset, splits: Splits) -> Iterator[Piece]:
    """Yield README.md, SPLIT/metadata.jsonl and SPLIT/CLASS/ID.png with the bytes of the shards."""
    folders = name_folders(dataset.classes)
    yield WholeFile(README, _describe(dataset, folders).encode())
    for split, samples in splits.items():
        for sample in samples:
            name = f"{folders[sample.class_id]}/{sample.file_name}"
            yield WholeFile(f"{split}/{name}", sample.image)
            told = {"file_name": name, "text": sample.caption, "label": dataset.classes[sample.class_id]}
            yield Line(f"{split}/{METADATA_FILES[0]}", json.dumps(told, ensure_ascii=False))


def name_folders(classes: Sequence[str]) -> list[str]:
    """Return the folder's name of each class: its own name if any file system takes it, else a similar one.

    Names that differ in upper case alone are the same folder on some file systems. The second then gets its class
    number at its end.
    """
    found: list[str] = []
    taken = {*METADATA_FILES}
    for number, name in enumerate(classes):
        folder = _make_safe(name)
        if folder.casefold() in taken:
            folder = f"{folder}-{number}"
        while folder.casefold() in taken:
            folder += "_"
        taken.add(folder.casefold())
        found.append(folder)
    return found


def _make_safe(name: str) -> str:
    """Return a name without what a file system refuses: some characters, a first dot, a last dot or space, length."""
    safe = UNSAFE.sub("_", name)
    safe = safe.encode()[:MOST_BYTES].decode(errors="ignore")
    safe = re.sub(r"^\.|[. ]$", "_", safe)
    return f"{safe}_" if RESERVED.fullmatch(safe) or not safe else safe


def _describe(dataset: Dataset, folders: Sequence[str]) -> str:
    """Return a page that tells the origin, and the folder of each class with another name."""
    renamed = [
        f"- `{folder}`: {json.dumps(name, ensure_ascii=False)}"
        for name, folder in zip(dataset.classes, folders, strict=True)
        if name != folder
    ]
    told = ["", "Classes whose names are no folder names:", "", *renamed] if renamed else []
    head = f"# {dataset.name} {dataset.version}"
    use = "A folder per split and class. `metadata.jsonl` holds the caption (text) and class (label) of each image."
    return "\n".join([head, "", use, *told, ""])
