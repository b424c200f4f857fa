"""Read a folder of images: one subfolder per class, below folders of splits or not, or images without classes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.captions import METADATA_FILES, Told, read_captions
from tailforge.catalog.images.files import Listing, Places
from tailforge.catalog.images.left_out import BESIDE, EMPTY, OTHER, Counter
from tailforge.catalog.images.masks import read_mask_file
from tailforge.catalog.images.pixels import file_pixels
from tailforge.catalog.images.records import Found
from tailforge.catalog.images.splits import find_split
from tailforge.catalog.pictures import SUFFIXES
from tailforge.schemas.errors import ImagesError

LOOSE = "{first} is in no folder of its class; move it into one, or remove it"


def find_split_folders(listing: Listing) -> dict[str, str]:
    """Return the split per folder directly below, if these folders are splits; else nothing.

    They are, if train has another split beside it, or if every folder is a split and holds folders itself.
    Errors: ImagesError for two folders of one split.
    """
    top = [name for name in listing.folders if "/" not in name]
    named = {name: split for name in top if (split := find_split(name))}
    deep = {name.partition("/")[0] for name in listing.folders if "/" in name}
    alone = bool(named) and set(named) == set(top) and set(named) <= deep
    if not alone and not ("train" in named.values() and len(set(named.values())) > 1):
        return {}

    seen: dict[str, str] = {}
    for name, split in named.items():
        if (other := seen.setdefault(split, name)) != name:
            raise ImagesError(
                f"{listing.folder} has the folders {other} and {name}, which both mean {split}; give the images of a "
                "split one folder"
            )
    return named


def read_folder(listing: Listing, left_out: Counter) -> Found:
    """Return the images of a folder. Errors: ImagesError for a folder without an image, and those of captions."""
    folder, divided = listing.folder, find_split_folders(listing)
    names = [name for name in listing.images if not divided or name.partition("/")[0] in divided]
    _report_beside(listing, divided, left_out)
    if not names:
        raise ImagesError(
            f"{folder} holds no image; put some there ({', '.join(SUFFIXES)}), in one subfolder per class if they "
            "have classes"
        )

    told = read_captions(listing, names, tuple(divided))
    masks = told.column("mask", None)
    if masks is not None:  # their files are no images of their own
        told = told.without({mask for mask in masks if mask})
        names, masks = list(told.names), told.column("mask", None)
    _report_others(listing, told, left_out)
    classes = [_class_of(name, bool(divided)) for name in names]
    labels = told.column("label", classes)
    _report_empty(listing, bool(divided), left_out)
    splits = [divided[name.partition("/")[0]] for name in names] if divided else told.column("split", None)
    return Found(
        kind="folder",
        origin=str(folder),
        ids=names,
        places=[str(folder / name) for name in names],
        pixels=file_pixels([f"{folder}/{name}" for name in names]),
        labels=None if labels is None or not any(labels) else labels,
        splits=splits,
        groups=told.column("group", None),
        captions=told.column("caption", None),
        absent={"label": _explain_classes(folder)},
        unlabelled=LOOSE,
        mask=_find_masks(folder, masks),
        split_origins={split: str(folder / name) for name, split in divided.items()},
    )


def _find_masks(folder: Path, masks: Sequence[str | None] | None) -> Callable[[int], NDArray[np.uint8] | None]:
    """Return how the mask of an image is read, whose file metadata name."""
    places = Places(folder)

    def read(row: int) -> NDArray[np.uint8] | None:
        """Return the mask of an image; None without one."""
        name = masks[row] if masks is not None else None
        return None if name is None else read_mask_file(places.require(name))

    return read


def _class_of(name: str, divided: bool) -> str | None:
    """Return the class folder of an image; None for an image in none."""
    parts = name.split("/")[divided:-1]
    return parts[0] if parts else None


def _explain_classes(folder: Path) -> str:
    return (
        f"folder {folder} holds no image in a folder of its class; make one subfolder per class, named after the "
        f"class, with images in it ({', '.join(SUFFIXES)})"
    )


def _report_beside(listing: Listing, divided: dict[str, str], left_out: Counter) -> None:
    """Report what is beside the folders of the splits: its images are in no split."""
    if divided:
        beside = [name for name in listing.folders if "/" not in name and name not in divided]
        beside += [name for name in listing.images if "/" not in name]
        for name in beside:
            left_out.add(BESIDE, str(listing.folder / name))


def _report_others(listing: Listing, told: Told, left_out: Counter) -> None:
    for name in listing.others:
        if name not in told.files and name.rpartition("/")[2] not in METADATA_FILES:
            left_out.add(OTHER, str(listing.folder / name))


def _report_empty(listing: Listing, divided: bool, left_out: Counter) -> None:
    """Report class folders without an image, where others have some."""
    full = {"/".join(name.split("/")[: divided + 1]) for name in listing.images}
    for name in listing.folders:
        if name.count("/") == divided and name not in full:
            top = name.partition("/")[0]
            if not divided or find_split(top):
                left_out.add(EMPTY, f"folder {listing.folder / name}")
