"""Read real images by their number, as samples like those of a published version."""

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from operator import index as to_index
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.images.records import Images, decode_picture
from tailforge.catalog.images.resizing import resize_image, resize_mask
from tailforge.catalog.pictures import show_rgb
from tailforge.catalog.reading.batches import SampleDict, register_collate
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError, ReadingError

REAL = "real"


def open_images_map(
    source: str | os.PathLike[str],
    split: str = "train",
    *,
    size: tuple[int, int] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> "ImageMapDataset":
    """Return labelled real images that are read by number: `len(images)`, `images[i]`.

    `source`: a folder with one subfolder per class, a CSV or Parquet file, a COCO file or WebDataset tars. `split`:
    chooses a split if the source has splits. `size`: (height, width) in pixels; images are scaled until they cover it,
    and their middle is kept. None keeps their own sizes. `root`: the folder that paths in a table or COCO file are
    relative to; by default the file's own. Parquet files with large row groups are slow by number.

    Errors: NotFoundError for a source that does not exist; ImagesError for one that cannot be read or lacks labels;
    ReadingError for a published version, which `open_dataset_map` opens.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ReadingError(f"size={size!r}; give (height, width) in pixels")
    base = None if root is None else usable_path(root, "root", ImagesError).absolute()
    images = open_images(source, root=base)
    if images.found.kind == "version":
        raise ReadingError(f"{images.origin} is a published version; open it with open_dataset_map")
    return ImageMapDataset(images.of_split(split), Opened(os.path.abspath(source), split, size, base))


class Opened(NamedTuple):
    """Arguments by which another process opens the images again."""

    source: str
    split: str
    size: tuple[int, int] | None
    root: Path | None


class ImageMapDataset(Sequence[dict[str, Any]]):
    """Labelled real images by number. A sample is a dict with the fields of a `MapDataset`: `key`, `image` (PIL, RGB),
    `mask` (PIL, or None), `caption` (or None), `cls` and `json` (None).

    `classes`: names by class, in alphabetic order. `categories`: names by value of the masks, from value 1;
    empty if the source does not tell them. It is picklable: the source is opened again.
    """

    source = REAL
    decode = True

    def __init__(self, images: Images, opened: Opened) -> None:
        labels = images.require_labels()
        self.classes = tuple(sorted(set(labels)))
        numbers = {name: number for number, name in enumerate(self.classes)}
        self._labels = np.array([numbers[label] for label in labels], np.int64)
        self._images, self._opened, self._size = images, opened, opened.size
        self.categories = tuple(category.name for category in images.found.categories)

    def __repr__(self) -> str:
        return f"<ImageMapDataset {self._images.origin}, {count_of(len(self), 'image')}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, tuple(self._opened)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> dict[str, Any]:  # type: ignore[override]
        """Return one sample. Errors: IndexError for a number outside the dataset; ImagesError for a damaged image."""
        register_collate()
        record = self._images[to_index(number)]
        image = decode_picture(record.read_bytes(), record.source, show_rgb)
        mask = record.read_mask()
        if self._size is not None:
            image = resize_image(image, self._size, "crop")
            mask = None if mask is None else resize_mask(mask, self._size, "crop")
        return SampleDict(
            key=record.id,
            image=image,
            mask=None if mask is None else Image.fromarray(mask),
            caption=record.caption,
            cls=int(self._labels[number]),
            json=None,
        )

    def identify(self) -> dict[str, Any]:
        """Return the facts, as plain values, that decide the samples and their order."""
        told = "\0".join(f"{each}\0{label}" for each, label in zip(self._images.ids, self._images.labels, strict=True))
        return {"images": sha256(told.encode()).hexdigest(), "size": None if self._size is None else list(self._size)}

    def read_labels(self) -> NDArray[np.int64]:
        """Return the class of each image, int64 [N]."""
        return self._labels


def _open_again(source: str, split: str, size: tuple[int, int] | None, root: Path | None) -> ImageMapDataset:
    """Open images in another process."""
    return open_images_map(source, split, size=size, root=root)
