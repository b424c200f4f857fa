"""Export a version into a folder. The module knows the formats by name, and reads, converts and writes."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tailforge.catalog.exports.coco import convert_coco
from tailforge.catalog.exports.folder import PieceWriter, new_folder
from tailforge.catalog.exports.huggingface import convert_huggingface
from tailforge.catalog.exports.imagefolder import convert_imagefolder
from tailforge.catalog.exports.panoptic import convert_panoptic
from tailforge.catalog.exports.pieces import Convert, Piece, Splits
from tailforge.catalog.exports.samples import list_splits, open_split
from tailforge.catalog.exports.voc import convert_voc
from tailforge.catalog.exports.yolo import convert_yolo
from tailforge.catalog.reading.index import name_split
from tailforge.catalog.reading.version import open_version
from tailforge.catalog.store import Store
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.errors import NotFoundError

FORMATS: dict[str, Convert] = {
    "coco": convert_coco,
    "panoptic": convert_panoptic,
    "yolo": convert_yolo,
    "voc": convert_voc,
    "imagefolder": convert_imagefolder,
}
# Formats that also copy files of the version.
COPYING_FORMATS: dict[str, Callable[[Store, Dataset, Splits], Iterator[Piece]]] = {"huggingface": convert_huggingface}


def choose_format(store: Store, format_name: str) -> Convert:
    """Return the converter of a known format. Errors: KeyError for an unknown format."""
    if format_name in FORMATS:
        return FORMATS[format_name]
    return partial(COPYING_FORMATS[format_name], store)


def export_version(
    store: Store, name: str, version: str, format_name: str, target: Path, splits: Sequence[str] = ()
) -> dict[str, Any]:
    """Write splits of a version into the new folder `target`, all splits by default; return a summary.

    Images keep the bytes of the shards. Errors: NotFoundError for an unknown dataset, version, split or format;
    UserError if `target` exists; VerificationError for a damaged version; StoreFullError, StoreAccessError and
    StoreError for failed reads and writes. After an error there is no `target`.
    """
    # Find all errors of the arguments before writing.
    target = usable_path(target, "--out")
    if format_name not in (*FORMATS, *COPYING_FORMATS):
        known = ", ".join((*FORMATS, *COPYING_FORMATS))
        raise NotFoundError(f"there is no format {format_name!r}; choose one of {known}")
    dataset = open_version(store, name, version, ("manifest",)).dataset
    chosen = list(dict.fromkeys(name_split(dataset, split) for split in splits)) or list_splits(dataset)
    samples = {split: open_split(store, dataset, split) for split in chosen}

    with new_folder(target) as folder, PieceWriter(folder, target) as writer:
        for piece in choose_format(store, format_name)(dataset, samples):
            writer.write(piece)
        writer.finish()

    sizes = {split: sum(shard.samples for shard in dataset.shards if shard.split == split) for split in chosen}
    return {
        "name": name,
        "version": dataset.version,
        "format": format_name,
        "folder": str(target),
        "splits": sizes,
        "files": writer.files,
        "bytes": writer.bytes,
    }
