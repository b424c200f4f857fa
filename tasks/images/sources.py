"""Photographs that an engine draws into, and masks that give it regions: found, digested and read one by one."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.catalog.images.left_out import EMPTY
from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.records import Images, Record, decode_picture
from tailforge.catalog.images.splits import find_split
from tailforge.catalog.pictures import show_rgb
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.jobs import LocatedImages
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.images.captioned import find_path, find_root
from tailforge.tasks.methods.masks.codec import IGNORE
from tailforge.tasks.methods.planning.samples import assign_split

Region = NDArray[np.bool_]


@dataclass(frozen=True)
class SourceImage:
    """A photograph, upright and in RGB. `part` marks pixels [H, W]; all without a mask. `split`: as recipes name it."""

    id: str
    sha256: str
    split: str | None
    group: str | None
    pixels: NDArray[np.uint8]
    part: Region

    def find_split(self, recipe: Recipe) -> str:
        """Return its own split, or one by the recipe's shares, which is that of its whole group."""
        shares = {str(name): share for name, share in recipe.splits.items()}
        return self.split or assign_split(name_object(self.group, self.sha256), shares)

    def describe(self) -> dict[str, Any]:
        """Return what names the photograph in provenance."""
        return {"id": self.id, "sha256": self.sha256, "split": self.split, "group": self.group}


def name_object(group: str | None, sha256: str) -> str:
    """Return what decides the split of a photograph without one: its group, or else its bytes."""
    return f"group {group}" if group else sha256


def locate_images(named: str, root: str | None, folder: Path, field: str) -> LocatedImages:
    """Return the images that a recipe in `folder` names at `field`, after reading each once.

    Errors: NotFoundError; ImagesError for images that cannot be read, and for files that are left out but could be
    images.
    """
    path = find_path(named, folder, field)
    inside = find_root(root, path, folder, field)
    place, limit = str(path), None if inside is None else str(inside)
    return LocatedImages(path=place, root=limit, digest=_digest(_open(place, limit)))


@lru_cache(maxsize=16)
def open_located(located: LocatedImages) -> Images:
    """Open images again, once per process. Errors: ImagesError if they changed since the build began."""
    images = _open(located.path, located.root)
    if _digest(images) != located.digest:
        raise ImagesError(f"the images of {located.path} changed while the dataset was built; build again")
    return images


def list_places(images: Images, splits: tuple[str, ...]) -> list[int]:
    """Return the places of the images in some splits; all of images without splits. Errors: ImagesError for none."""
    if images.found.splits is None:
        return list(range(len(images)))
    _require_whole_groups(images)
    found = [place for place, split in enumerate(images.splits) if split and (find_split(split) or split) in splits]
    if not found:
        known = ", ".join(sorted({each for each in images.splits if each is not None}))
        raise ImagesError(
            f"{images.origin} has no image of the splits {', '.join(splits)}, it has: {known}; name its splits in the "
            "recipe's splits"
        )
    return found


def _require_whole_groups(images: Images) -> None:
    """Check that the images of a group are in one split. Errors: ImagesError."""
    known: dict[str, str | None] = {}
    for group, split in zip(images.groups, images.splits, strict=True):
        if group and known.setdefault(group, split) != split:
            raise ImagesError(
                f"{images.origin}: the group {group} is in the splits {known[group]} and {split}; put all images of a "
                "group into one split"
            )


def read_source(images: Images, place: int, *, with_part: bool) -> SourceImage:
    """Return one photograph. Without `with_part` its mask does not count.

    Errors: ImagesError for a broken photograph, a mask of another size or one that marks nothing.
    """
    record = images[place]
    data = record.read_bytes()
    pixels = np.asarray(decode_picture(data, record.source, show_rgb), np.uint8)
    part = read_region(record) if with_part else None
    return SourceImage(
        record.id,
        hashlib.sha256(data).hexdigest(),
        None if record.split is None else find_split(record.split) or record.split,
        record.group,
        pixels,
        np.ones(pixels.shape[:2], np.bool_) if part is None else part,
    )


def read_region(record: Record) -> Region | None:
    """Return the pixels that an image's mask marks, bool [H, W]; None without a mask.

    Errors: ImagesError for a mask of another size than its image, or one that marks nothing.
    """
    mask = record.read_mask()
    if mask is None:
        return None
    if mask.shape != (record.shown.height, record.shown.width):
        raise ImagesError(
            f"the mask of {record.source} is {mask.shape[1]} x {mask.shape[0]} pixels (width x height), its image "
            f"{record.shown.width} x {record.shown.height}; save the mask at the image's size"
        )
    region: Region = (mask > 0) & (mask != IGNORE)
    if not region.any():
        raise ImagesError(f"the mask of {record.source} marks no pixel; mark some, or leave the mask out")
    return region


def list_regions(images: Images) -> Iterator[tuple[int, Region]]:
    """Yield place and region [h, w] of every image with a mask. Errors: ImagesError if none has one."""
    found = [(place, region) for place, each in enumerate(images) if (region := read_region(each)) is not None]
    if not found:
        raise ImagesError(
            f"{images.origin} has no image with a mask; give masks, for example by a column mask in metadata.jsonl"
        )
    yield from found


def _open(path: str, root: str | None) -> Images:
    images = open_images(path, root=None if root is None else Path(root), check_classes=False)
    images.left_out.without(EMPTY).refuse()
    return images


def _digest(images: Images) -> str:
    """Return the sha256 over id, split, group, bytes and mask of all images. Errors: ImagesError for a broken one."""
    whole = hashlib.sha256()
    for record, data in zip(images, images.stream(), strict=True):
        decode_picture(data, record.source, show_rgb)
        for part in (record.id, record.split or "", record.group or ""):
            whole.update(part.encode() + b"\0")
        mask = record.read_mask()
        for content in (data, b"" if mask is None else mask.tobytes()):
            whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()
