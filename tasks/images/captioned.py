"""Captioned images, read again and again at the size of a generator."""

import hashlib
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.images.left_out import EMPTY, LeftOut
from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.records import Images, decode_picture
from tailforge.catalog.images.resizing import resize_image
from tailforge.catalog.images.versions import open_published
from tailforge.catalog.pictures import show_rgb
from tailforge.catalog.reading.index import name_split
from tailforge.catalog.reading.version import Version, open_version
from tailforge.catalog.store import Store, is_address
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.errors import ImagesError, NotFoundError
from tailforge.schemas.options import Fit
from tailforge.schemas.settings.licences import UNKNOWN, OtherLicence
from tailforge.schemas.training.generator import ImageSource, filters_of
from tailforge.schemas.training.record import TrainedImages
from tailforge.tasks.images.class_captions import DEFAULT, HINT, caption_by_class
from tailforge.tasks.images.labelled import choose_rows

Captions = list[str | None]


@dataclass(frozen=True)
class CaptionedImages:
    """Images that can be read repeatedly, in the order of the captions. `origin` is their name in reports.

    `license`: as the recipe states it, else that of a published version, else UNKNOWN.
    """

    origin: str
    captions: tuple[str, ...]
    fit: Fit
    license: str | OtherLicence
    _images: Images

    @property
    def classes(self) -> tuple[str | None, ...]:
        """Class names in the order of the captions; None for an image without a class."""
        return self._images.labels

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def left_out(self) -> LeftOut:
        """What the source holds besides."""
        return self._images.left_out

    def read(self, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
        """Yield pixels [height, width, 3], one image at a time.

        They are upright by EXIF, in RGB, with grey behind transparent pixels. Errors: ImagesError naming an
        image that is broken or, with `fit` exact, has another size.
        """

        def bring_to_size(image: Image.Image) -> Image.Image:
            """Return the image in RGB at the requested size."""
            return resize_image(show_rgb(image), (height, width), self.fit)

        for source, data in zip(self._images.sources, self._images.stream(), strict=True):
            pixels = np.asarray(decode_picture(data, source, bring_to_size), np.uint8)
            if pixels.shape[:2] != (height, width):
                raise ImagesError(
                    f"{source} is {pixels.shape[1]} x {pixels.shape[0]} pixels (width x height), the generator draws "
                    f"{width} x {height}; give images of that size, or set images.fit: crop, pad or stretch"
                )
            yield pixels

    def require_readable(self, size: tuple[int, int] | None) -> None:
        """Read every image once; `size` is (height, width) if known. Errors: ImagesError, as `read`."""
        if size is not None:
            deque(self.read(*size), maxlen=0)
            return
        for source, data in zip(self._images.sources, self._images.stream(), strict=True):
            decode_picture(data, source)

    def digest(self) -> str:
        """Return the sha256 (hex) over the bytes of the image files, their captions and classes, in order."""
        whole = hashlib.sha256()
        for caption, label, data in zip(self.captions, self.classes, self._images.stream(), strict=True):
            for part in (caption.encode(), (label or "").encode(), data):
                whole.update(len(part).to_bytes(8, "big"))
                whole.update(part)
        return whole.hexdigest()

    def describe(self) -> TrainedImages:
        """Return origin, number, digest and licence. It reads all images. Errors: ImagesError."""
        return TrainedImages(origin=self.origin, images=len(self), digest=self.digest(), license=self.license)


def open_captioned(source: ImageSource, folder: Path, seed: int) -> CaptionedImages:
    """Return the requested number of images of a source, chosen at random by `seed`, without reading any.

    `folder`: start of relative paths. Errors: NotFoundError for a missing version, split, folder or file;
    ImagesError for unusable images or captions.
    """
    if source.dataset is not None:
        version = _find_version(source, source.dataset, folder)
        images = _open_version(version, source)
        told, origin, licence = list(images.captions), images.origin, version.dataset.license
    else:
        images, told, origin = _open_path(source, folder)
        licence = UNKNOWN
    captions = _complete_captions(images, told, source.caption)
    if source.images is not None and source.images > len(captions):
        raise ImagesError(
            f"images.images is {source.images}, {origin} has {len(captions)}; lower it, or leave it out to take all"
        )

    rows = choose_rows(np.zeros(len(captions), np.int64), source.images or len(captions), seed)
    chosen, licence = images.select(rows), licence if source.license == UNKNOWN else source.license
    return CaptionedImages(origin, tuple(captions[row] for row in rows), source.fit, licence, chosen)


def _open_path(source: ImageSource, folder: Path) -> tuple[Images, Captions, str]:
    """Return the images at a path with their captions and their name in reports. Errors: NotFoundError, ImagesError."""
    assert source.folder is not None
    path = find_path(source.folder, folder, "images")
    opened = open_images(path, root=find_root(source.root, path, folder, "images"), check_classes=False)
    opened.left_out.without(EMPTY).refuse()
    images = opened.of_split(source.split)
    divided = opened.found.splits is not None

    template = None if source.caption is not None else source.class_caption or DEFAULT
    if template is None or not _needs_classes(images):
        captions = list(images.captions)
        part = f" ({source.split})" if divided else ""
        return images, captions, path.name + part

    captions = caption_by_class(images.captions, images.labels_as_found, template, f"images.folder: {images.origin}")
    if opened.found.kind != "folder":
        return images, captions, path.name + (f" ({source.split})" if divided else "")
    opened.left_out.refuse()
    part = f"split: {source.split}, " if divided else ""
    count = len({*images.labels_as_found})
    return images, captions, f"{path.name} (classes: {count}, {part}captions: {template})"


def find_root(root: str | None, path: Path, folder: Path, field: str) -> Path | None:
    """Return the folder that no path in the images at `path` may leave; None: their own. `field`: its key's section.

    Errors: NotFoundError for a missing one.
    """
    if root is not None:
        found = (folder / usable_path(root, f"{field}.root", ImagesError, folder)).resolve()
        if not found.is_dir():
            raise NotFoundError(f"{field}.root: {found} is no folder; name the folder that the paths start from")
        return found
    return folder.resolve() if path.is_dir() and path.is_relative_to(folder.resolve()) else None


def find_path(named: str, folder: Path, field: str) -> Path:
    """Return the path that a recipe in `folder` names. `field`: its key's section.

    Errors: NotFoundError, ImagesError for one that leaves the folder.
    """
    usable = usable_path(named, f"{field}.folder", ImagesError, folder)
    path = (folder / usable).resolve()
    if not path.is_relative_to(folder.resolve()) and not usable.is_absolute():
        raise ImagesError(
            f"{field}.folder: {named!r} leaves the recipe's folder {folder}; give an absolute path instead"
        )
    if not path.exists():
        raise NotFoundError(
            f"{field}.folder: {path} does not exist; give a folder of images, a table, a COCO file or tars, relative "
            "to the recipe"
        )
    return path


def _needs_classes(images: Images) -> bool:
    """Return whether labels make captions: in a folder for all images or none, elsewhere where a caption is missing."""
    labels, captions = images.labels, images.captions
    if images.found.kind == "folder":
        return None not in labels and not any(caption is not None for caption in captions)
    return None in captions and any(label is not None for label in labels)


def _complete_captions(images: Images, told: Captions, default: str | None) -> list[str]:
    """Return all captions, with `default` for missing ones. Errors: ImagesError for a missing or empty caption."""
    captions = [default if own is None else own for own in told]
    for source, caption in zip(images.sources, captions, strict=True):
        if caption is None:
            raise ImagesError(f"{source} has no caption; {HINT}")
        if not caption.strip():
            raise ImagesError(f"{source} has an empty caption; write what the image shows, or remove the image")
    return [caption.strip() for caption in captions if caption is not None]


def _find_version(source: ImageSource, dataset: str, folder: Path) -> Version:
    """Return the published version of a source. Errors: NotFoundError, VerificationError."""
    assert source.store is not None
    name, _, version = dataset.partition("@")
    address = source.store
    if not is_address(address):
        address = str(folder / usable_path(address, "images.store", ImagesError, folder))
    return open_version(Store.open(address), name, version or "latest", ("manifest",))


def _open_version(opened: Version, source: ImageSource) -> Images:
    """Return the samples of a published version that fulfil `where`. Errors: ImagesError if none does."""
    name_split(opened.dataset, source.split)
    kept = _select_rows(opened, source)

    images = open_published(opened).of_split(source.split)
    if not kept:
        raise ImagesError(f"images.where: no sample of {images.origin} fulfils {_show(source)}; loosen the condition")
    return images.select([place for place, key in enumerate(images.ids) if key in kept])


def _select_rows(version: Version, source: ImageSource) -> set[str]:
    """Return the ids of the manifest's rows in the split that fulfil all of `where`.

    Errors: ImagesError for an unknown column or a value of the wrong kind.
    """
    columns = version.list_columns("manifest")
    hint = f"the manifest of {version.label} has the columns {', '.join(columns)}"
    if unknown := [column for column, _, _ in source.where if column not in columns]:
        raise ImagesError(f"images.where: there is no column {unknown[0]!r}; {hint}")
    filters = [("split", "==", source.split), *filters_of(source)]
    table = version.read_table("manifest", sorted({"sample_id", *(column for column, _, _ in filters)}))
    try:
        chosen = table.filter(pq.filters_to_expression(filters))
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ImagesError(
            f"images.where: {_show(source)} cannot be compared: {error}; give values of the columns' types; {hint}"
        ) from error
    return set(chosen["sample_id"].to_pylist())


def _show(source: ImageSource) -> str:
    return json.dumps(source.where, default=str)
