"""Open images with labels, captions, boxes or masks from any source that users have. One call: `open_images`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.class_folders import read_folder
from tailforge.catalog.images.coco import find_coco, read_coco, split_of_coco
from tailforge.catalog.images.files import Listing, list_folder
from tailforge.catalog.images.hub import (
    find_parquet,
    is_saved,
    read_parquet_files,
    read_saved,
    split_of_path,
)
from tailforge.catalog.images.joining import Part, join_parts
from tailforge.catalog.images.left_out import UNNAMED, Counter
from tailforge.catalog.images.mask_folders import find_mask_folders, read_mask_folders
from tailforge.catalog.images.records import Found, Images
from tailforge.catalog.images.tables import SEPARATORS, Columns, read_csv, read_parquet
from tailforge.catalog.images.tars import read_tar
from tailforge.catalog.images.versions import open_version_images
from tailforge.catalog.reading.opening import find_dataset
from tailforge.catalog.registry import DATASET_FILE, DATASETS, NAME
from tailforge.catalog.store import is_address
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.errors import ImagesError, NotFoundError

GIVE = (
    "give a folder of images (one subfolder per class), a CSV or Parquet file, a COCO file (.json), WebDataset tars, "
    "or dataset@version"
)


@dataclass(frozen=True)
class Opening:
    """What a reader of one kind of source is given. `root`: folder that no path may leave; None: the source's own."""

    path: Path
    columns: Columns
    root: Path | None
    left_out: Counter


Read = tuple[Found, NDArray[np.int64]]  # all images, and the rows that can be used


def open_images(
    source: str | os.PathLike[str],
    *,
    store: str | None = None,
    columns: Columns | None = None,
    root: Path | None = None,
    check_classes: bool = True,
) -> Images:
    """Open a source of images, whichever kind it is, without decoding one.

    `source`: a folder, a table, a COCO file, tars, or dataset@version of `store`. `columns`: names of a table's columns
    in place of the usual ones. `root`: the folder that no link or path may leave, and that paths in a table or COCO
    file are relative to; by default the source's own.
    `check_classes`: refuse class names that look alike; without it `Images.check_classes` does so later.
    Errors: NotFoundError for a source that does not exist; ImagesError for one that cannot be read or holds no image;
    VerificationError for a damaged version.
    """
    left_out = Counter()
    text = os.fspath(source)
    if is_address(text):
        return open_version_images(*find_dataset(text, None, "latest"))
    path = usable_path(source, "images", ImagesError)
    if not path.exists():
        return _open_named(text, store)
    if path.is_dir() and _holds_version(path):
        return open_version_images(*find_dataset(path, None, "latest"))

    opening = Opening(path, columns or Columns(), root, left_out)
    found, rows = _read_folder(opening) if path.is_dir() else _read_file(opening)
    images = Images(found, rows, found.origin, left_out.report())
    return images.check_classes() if check_classes else images


def _open_named(source: str, store: str | None) -> Images:
    """Open a version by its name. Errors: NotFoundError."""
    if store is None:
        raise NotFoundError(f"{source} does not exist; {GIVE} with its store")
    name, _, version = source.partition("@")
    if not NAME.match(name):
        raise NotFoundError(f"{source!r} is no file, no folder and no name of a dataset; {GIVE}")
    return open_version_images(store, name, version or "latest")


def _read_file(opening: Opening) -> Read:
    """Read a file by its suffix; one with an unknown suffix as Parquet."""
    path, suffix = opening.path, opening.path.suffix.lower()
    if suffix in SEPARATORS:
        return read_csv(path, opening.columns, opening.root, opening.left_out)
    if suffix == ".json":
        return read_coco(path, opening.root, opening.left_out)
    if suffix == ".tar":
        return read_tar(path, opening.left_out)
    return read_parquet(path, opening.columns, opening.root, opening.left_out)


def _read_folder(opening: Opening) -> Read:
    """Read a folder by what is in it."""
    path, columns, left_out = opening.path, opening.columns, opening.left_out
    if is_saved(path):
        return read_saved(path, columns, left_out)

    listing = list_folder(path, opening.root or path, left_out)
    if files := find_coco(listing):
        return _read_coco_files(listing, files, left_out)
    if not listing.images:
        if files := find_parquet(listing):
            return read_parquet_files(listing, files, columns, left_out)
        if files := [name for name in listing.others if name.lower().endswith(".tar")]:
            parts = [Part(name, *read_tar(path / name, left_out), split_of_path(name)) for name in files]
            return join_parts(str(path), parts)
    if pairs := find_mask_folders(listing):
        return read_mask_folders(listing, pairs, left_out)
    found = read_folder(listing, left_out)
    return found, np.arange(len(found.ids))


def _holds_version(path: Path) -> bool:
    """Return whether a folder is a version or a dataset of a store."""
    if (path / DATASET_FILE).is_file():
        return True
    return path.resolve().parent.name == DATASETS and any(path.glob(f"*/{DATASET_FILE}"))


def _read_coco_files(listing: Listing, files: Sequence[str], left_out: Counter) -> Read:
    """Read the COCO files of a folder, each a split if its name tells one."""
    parts = []
    for name in files:
        found, rows = read_coco(listing.folder / name, None, left_out)
        parts.append(Part(name, found, rows, split_of_coco(name)))
    found, rows = join_parts(str(listing.folder), parts)
    known = {os.path.normpath(found.places[row]) for row in rows}
    for name in listing.images:
        if os.path.normpath(listing.folder / name) not in known:
            left_out.add(UNNAMED, str(listing.folder / name))
    return found, rows
