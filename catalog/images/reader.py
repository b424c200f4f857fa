"""Open images with labels, captions, boxes or masks from any source that users have. One call: `open_images`."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.class_folders import read_folder
from tailforge.catalog.images.files import list_folder
from tailforge.catalog.images.left_out import Counter
from tailforge.catalog.images.records import Found, Images
from tailforge.catalog.images.tables import SEPARATORS, Columns, read_csv, read_parquet
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
    path = Path(usable_path(source, "images", ImagesError))
    if not path.exists():
        raise NotFoundError(f"{os.fspath(source)!r} is no file, no folder and no name of a dataset; {GIVE}")

    opening = Opening(path, columns or Columns(), root, left_out)
    found, rows = _read_folder(opening) if path.is_dir() else _read_file(opening)
    images = Images(found, rows, found.origin, left_out.report())
    return images.check_classes() if check_classes else images


def _read_file(opening: Opening) -> Read:
    """Read a file by its suffix; one with an unknown suffix as Parquet."""
    path = opening.path
    if path.suffix.lower() in SEPARATORS:
        return read_csv(path, opening.columns, opening.root, opening.left_out)
    return read_parquet(path, opening.columns, opening.root, opening.left_out)


def _read_folder(opening: Opening) -> Read:
    """Read a folder by what is in it."""
    listing = list_folder(opening.path, opening.root or opening.path, opening.left_out)
    found = read_folder(listing, opening.left_out)
    return found, np.arange(len(found.ids))
