"""Read folders of segmentation: pictures in `images` and, by the same name, their masks in `masks` beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.captions import METADATA_FILES
from tailforge.catalog.images.class_folders import find_split_folders, read_folder
from tailforge.catalog.images.files import Listing
from tailforge.catalog.images.joining import Part, join_parts
from tailforge.catalog.images.left_out import BESIDE_MASKS, OTHER, Counter
from tailforge.catalog.images.masks import read_mask_file
from tailforge.catalog.images.records import Found
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError

IMAGES, MASKS = "images", "masks"  # names of the folders, in upper or lower case


def find_mask_folders(listing: Listing) -> dict[str, str | None]:
    """Return the folders that hold images and masks, "" for the listed one, and their splits; empty without any.

    Folders of splits are above these two (`train/images`), or below (`images/train`). A folder with metadata has none,
    since they name its masks. Errors: ImagesError for masks of some splits alone.
    """
    if _is_pair(listing, ""):
        return {"": None}
    divided = find_split_folders(listing)
    pairs: dict[str, str | None] = {name: split for name, split in divided.items() if _is_pair(listing, name)}
    if pairs and (bare := [name for name in divided if name not in pairs]):
        raise ImagesError(
            f"{listing.folder / bare[0]} has no folders images and masks, and {next(iter(pairs))} beside it has both; "
            "give masks for all splits, or remove the folder"
        )
    return pairs


def read_mask_folders(
    listing: Listing, folders: Mapping[str, str | None], left_out: Counter
) -> tuple[Found, NDArray[np.int64]]:
    """Return the images with their masks, and their rows.

    Errors: ImagesError for pictures without a mask, masks without a picture, and two of one name; as `read_folder`.
    """
    if folders == {"": None}:
        found = _read_pair(listing, left_out)
        return found, np.arange(len(found.ids))
    parts = []
    for name, split in folders.items():
        found = _read_pair(_look_into(listing, name), left_out)
        parts.append(Part(name, found, np.arange(len(found.ids)), split))
    return join_parts(str(listing.folder), parts)


def _is_pair(listing: Listing, name: str) -> bool:
    """Return whether a folder holds images and masks, and no metadata."""
    inside = _look_into(listing, name)
    top = {each.casefold() for each in inside.folders if "/" not in each}
    return {IMAGES, MASKS} <= top and not set(METADATA_FILES) & set(inside.others)


def _look_into(listing: Listing, name: str) -> Listing:
    """Return the content of a subfolder, with names below it; "" is the listed folder."""
    if not name:
        return listing
    start = f"{name}/"
    own = [
        tuple(each.removeprefix(start) for each in names if each.startswith(start))
        for names in (listing.images, listing.others, listing.folders)
    ]
    return Listing(listing.folder / name, listing.root, *own)


def _read_pair(listing: Listing, left_out: Counter) -> Found:
    """Return the images of one folder with their masks. Errors: ImagesError."""
    pictures, masks = (_look_into(listing, _spell(listing, word)) for word in (IMAGES, MASKS))
    found = read_folder(pictures, left_out)
    files = _match(pictures, masks, found.ids)

    # Report what is in neither folder, and what is no mask.
    inside = (f"{pictures.folder.name}/", f"{masks.folder.name}/")
    for name in (*listing.images, *listing.others):
        if not name.startswith(inside):
            left_out.add(BESIDE_MASKS, str(listing.folder / name))
    for name in masks.others:
        left_out.add(OTHER, str(masks.folder / name))
    return replace(found, origin=str(listing.folder), mask=_read_masks(files))


def _spell(listing: Listing, word: str) -> str:
    """Return a folder's name as it is spelt. Errors: ImagesError for two spellings."""
    names = [name for name in listing.folders if name.casefold() == word]
    if len(names) > 1:
        raise ImagesError(f"{listing.folder} has the folders {names[0]} and {names[1]}; keep one")
    return names[0]


def _match(pictures: Listing, masks: Listing, names: Sequence[str]) -> list[str]:
    """Return the mask's file of each picture: the same name below the other folder, whatever its suffix.

    Errors: ImagesError.
    """
    wanted, given = _by_stem(pictures, names), _by_stem(masks, masks.images)
    for own, others, lacks in ((wanted, given, "without a mask"), (given, wanted, "without a picture")):
        if alone := [name for stem, name in own.items() if stem not in others]:
            here, there = (pictures, masks) if own is wanted else (masks, pictures)
            raise ImagesError(
                f"{count_of(len(alone), 'file')} of {here.folder} {lacks} of the same name in {there.folder}, such as "
                f"{alone[0]}; add it, or remove the file"
            )
    return [str(masks.folder / given[_stem(name)]) for name in names]


def _by_stem(listing: Listing, names: Sequence[str]) -> dict[str, str]:
    """Return names by their part before the suffix. Errors: ImagesError for two files of one name."""
    found: dict[str, str] = {}
    for name in names:
        if (other := found.setdefault(_stem(name), name)) != name:
            raise ImagesError(f"{listing.folder} has {other} and {name}, so masks cannot be told apart; rename one")
    return found


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _read_masks(files: Sequence[str]) -> Callable[[int], NDArray[np.uint8]]:
    """Return how the mask of an image is read."""

    def read(row: int) -> NDArray[np.uint8]:
        """Return the mask of an image."""
        return read_mask_file(files[row])

    return read
