"""Where a repository of the Hub holds a version.

A repository holds what `export --format huggingface` writes (card, Parquet, tars), a Croissant file, and in `version/`
all other files of the version, byte for byte. The tars are there once, below `shards/SPLIT/`.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tailforge.catalog.exports.export import export_version
from tailforge.catalog.exports.folder import PieceWriter
from tailforge.catalog.exports.huggingface import copy_file
from tailforge.catalog.exports.pieces import StreamedFile, WholeFile
from tailforge.catalog.metadata.croissant import describe_croissant
from tailforge.catalog.metadata.evaluations import read_worth
from tailforge.catalog.registry import DATASET_FILE, version_folder
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset

FOLDER = "version"
RECORD = f"{FOLDER}/{DATASET_FILE}"
CROISSANT = "croissant.json"


def list_places(dataset: Dataset) -> dict[str, str]:
    """Return the place in the repository of every file that dataset.json names, by its path in the version."""
    tars = {f"shards/{shard.name}": f"shards/{shard.split}/{shard.name}" for shard in dataset.shards}
    return {path: tars.get(path, f"{FOLDER}/{path}") for path in dataset.files}


def write_repository(store: Store, dataset: Dataset, folder: Path, address: Callable[[str], str]) -> None:
    """Write the files of a version's repository into the new folder `folder`.

    `address` returns the URL of a place in the repository. Errors: as `export_version`.
    """
    export_version(store, dataset.name, dataset.version, "huggingface", folder)
    places = list_places(dataset)
    document = describe_croissant(
        dataset, read_worth(store, dataset.name, dataset.version), lambda path: address(places[path])
    )

    record = f"{version_folder(store, dataset.name, dataset.version)}/{DATASET_FILE}"
    with PieceWriter(folder, folder) as writer:
        for path, place in places.items():
            if place.startswith(f"{FOLDER}/"):
                writer.write(StreamedFile(place, partial(copy_file, store, dataset, path)))
        writer.write(WholeFile(CROISSANT, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()))
        writer.write(WholeFile(RECORD, store.read(record)))
