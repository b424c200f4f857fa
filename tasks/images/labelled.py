"""Open labelled images from a Parquet file, a folder with one subfolder per class, or a published version."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.images.columns import read_classes, require_complete
from tailforge.catalog.images.resizing import resize_image
from tailforge.catalog.pictures import SUFFIXES, show_rgb
from tailforge.catalog.reading.reader import WHOLE, open_dataset
from tailforge.catalog.registry import NAME, load_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.shown import describe_failure, show
from tailforge.schemas.errors import ImagesError, NotFoundError, VerificationError
from tailforge.schemas.settings.fields import Fit, look, tidy
from tailforge.tasks.images.image_bytes import (
    decode_image,
    list_image_files,
    read_image_file,
    require_image_column,
    require_inside,
    take_image_bytes,
)
from tailforge.tasks.methods.classifiers.train import Pictures

SHOWN = 5  # images named in an error
MODES = {1: "L", 3: "RGB"}
LabelOf = Callable[[str], int]


@dataclass(frozen=True)
class LabelledImages:
    """Images before decoding. `origin` names their source, `place(k)` that of image k; a missing label is None."""

    origin: str
    labels: tuple[str | None, ...]
    read: Callable[[int], bytes]
    place: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)

    def require_labels(self) -> tuple[str, ...]:
        """Return the labels. Errors: ImagesError naming the images without one."""
        missing = [self.place(row) for row, label in enumerate(self.labels) if label is None]
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise ImagesError(f"no label: {', '.join(missing[:SHOWN])}{more}; label each image or remove it")
        return tuple(label for label in self.labels if label is not None)


def open_images(source: str, store: str, split: str, learnt: str = "") -> LabelledImages:
    """Open a Parquet file, a folder, or dataset@version of the store, whichever `source` is.

    Only `split` is used of a file with a column split, a folder with train and test, or a version. If a version has
    no test
    split, a test uses all other splits except the training split (`learnt`: its origin).
    Errors: NotFoundError; ImagesError for a file without labelled images.
    """
    if Path(source).exists():
        return open_files(Path(source), split)
    name, _, version = source.partition("@")
    if not NAME.match(name):
        raise NotFoundError(
            f"{source!r} is no file, no folder and no name of a dataset; give a Parquet file, a folder with one "
            "subfolder per class, or dataset@version"
        )
    return open_version(store, name, version or "latest", split, learnt)


def open_files(path: Path, split: str) -> LabelledImages:
    """Open a Parquet file or a folder with one subfolder per class; only `split` if it is divided into train and test.

    Errors: NotFoundError, ImagesError.
    """
    if path.is_dir():
        divided = all((path / name).is_dir() for name in ("train", "test"))
        return _open_folder(path / split if divided else path, path)
    if path.is_file():
        return _open_parquet(path, split)
    raise NotFoundError(f"{path} does not exist; give a Parquet file or a folder with one subfolder per class")


def open_version(store: str, name: str, version: str, split: str, learnt: str = "") -> LabelledImages:
    """Open a version's split; a missing test split means all splits but `learnt`. Errors: NotFoundError."""
    dataset = load_dataset(Store.open(store), name, version)

    def origin_of(*splits: str) -> str:
        """Return the name of some splits for reports."""
        return f"{name}@{dataset.version} ({', '.join(splits)})"

    whole = split == "test" and split not in dataset.counts.by_split
    splits = list(dataset.counts.by_split) if whole else [split]
    splits = [each for each in splits if origin_of(each) != learnt] or splits

    keys, labels, images = [], [], []
    for each in splits:
        for sample in open_dataset(store, dataset.version, each, name=name, decode=False, **WHOLE):
            keys.append(sample["key"])
            labels.append(_name_class(dataset, sample))
            images.append(sample["image"])
    origin = origin_of(*splits)
    return LabelledImages(origin, tuple(labels), images.__getitem__, lambda row: f"{origin}: sample {keys[row]}")


def _name_class(dataset: Dataset, sample: Mapping[str, Any]) -> str:
    """Return the class name of a sample. Errors: VerificationError for a number outside the version's classes."""
    if not 0 <= sample["cls"] < len(dataset.classes):
        raise VerificationError(
            f"{dataset.name} {dataset.version}: sample {sample['key']} has class {sample['cls']}, and dataset.json "
            f"names {len(dataset.classes)}; `tailforge verify` lists other damage"
        )
    return dataset.classes[int(sample["cls"])]


def _open_folder(folder: Path, root: Path) -> LabelledImages:
    """Open a folder with one subfolder per class. Errors: ImagesError for an empty folder."""
    files = list_class_files(folder, root)
    if not files:
        raise ImagesError(
            f"folder {folder} holds no image in a folder of its class; make one subfolder per class, named after the "
            f"class, with images in it ({', '.join(SUFFIXES)})"
        )
    labels = tidy_classes([file.relative_to(folder).parts[0] for file in files], f"folder {folder}")
    return LabelledImages(str(folder), labels, lambda row: read_image_file(files[row]), lambda row: str(files[row]))


def tidy_classes(labels: Sequence[str | None], origin: str) -> tuple[str | None, ...]:
    """Return the class names in their stored form. Errors: ImagesError for two names that look alike."""
    names = {label: tidy(label) for label in dict.fromkeys(labels) if label is not None}
    seen: dict[str, str] = {}
    for label in names:
        if (other := seen.setdefault(look(label), label)) != label:
            raise ImagesError(
                f"{origin}: the classes {show(other)} and {show(label)} look alike (upper case, spaces and the form of "
                "accents do not count); give both one name, or names that differ"
            )
    return tuple(None if label is None else names[label] for label in labels)


def list_class_files(folder: Path, root: Path) -> list[Path]:
    """Return the images of a folder with one subfolder per class, class by class in the order of names.

    Errors: ImagesError for a class without images, an image without a class, and those of `list_image_files`.
    """
    shown = [inner for inner in sorted(folder.iterdir()) if not inner.name.startswith(".")]
    classes = [require_inside(inner, root) for inner in shown if inner.is_dir()]
    files = {inner: list_image_files(inner, root) for inner in classes}
    empty = [inner for inner in classes if not files[inner]]
    if 0 < len(empty) < len(classes):
        raise ImagesError(f"folder {empty[0]} holds no image; put images of its class there, or remove it")
    if classes and (loose := [file for file in shown if not file.is_dir() and file.suffix.lower() in SUFFIXES]):
        raise ImagesError(f"{loose[0]} is in no folder of its class; move it into one, or remove it")
    return [file for inner in classes for file in files[inner]]


def _open_parquet(file: Path, split: str) -> LabelledImages:
    """Open a Parquet file with columns image and label. Errors: ImagesError."""
    try:
        table = pq.ParquetFile(file).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ImagesError(
            f"{file} cannot be read as Parquet: {describe_failure(error)}; give a Parquet file with columns image and "
            "label, or a folder with one subfolder per class"
        ) from error
    if missing := {"image", "label"} - set(table.column_names):
        raise ImagesError(
            f"{file} has no column {sorted(missing)[0]!r}; it has: {', '.join(table.column_names)}. It needs image "
            "(bytes of an image file) and label (class name), and may have split"
        )
    require_image_column(file, table.schema.field("image").type)
    if not table.num_rows:
        raise ImagesError(f"{file} has no rows; give a file with labelled images")

    origin = str(file)
    rows: Sequence[int] = range(table.num_rows)
    if "split" in table.column_names:
        origin, rows = f"{file} ({split})", rows_of_split(file, table, split)

    images, classes = table["image"], read_classes(file, table, "label")
    labels = tidy_classes([classes[row] for row in rows], str(file))

    def read(row: int) -> bytes:
        """Return the bytes of an image."""
        return take_image_bytes(images[rows[row]].as_py())

    return LabelledImages(origin, labels, read, lambda row: f"{file}: row {rows[row]}")


def rows_of_split(file: Path, table: pa.Table, split: str) -> Sequence[int]:
    """Return the rows of a split. Errors: ImagesError for a row without a split, or if no row has this split."""
    splits = require_complete(file, "split", read_classes(file, table, "split"), range(table.num_rows))
    rows = [row for row, value in enumerate(splits) if value == split]
    if not rows:
        raise ImagesError(f"{file} has no row of split {split!r}; it has: {', '.join(sorted(set(splits)))}")
    return rows


def decode_images(
    images: LabelledImages,
    label_of: LabelOf,
    size: tuple[int, int],
    channels: int,
    rows: NDArray[np.int64],
    fit: Fit = "exact",
) -> Pictures:
    """Return pixels and class numbers of the given rows, as `decode_pixels`.

    Errors: ImagesError, and those of `label_of`.
    """
    labels = label_rows(images, label_of)[rows]
    return Pictures(decode_pixels(images, size, channels, rows, fit), labels)


def decode_pixels(
    images: LabelledImages, size: tuple[int, int], channels: int, rows: NDArray[np.int64], fit: Fit = "exact"
) -> NDArray[np.uint8]:
    """Return pixels [rows, height, width, channels] of the given rows.

    `size` is (height, width), `channels` 1 (grey) or 3. `fit` crop scales images up or down and keeps the centre.
    Errors: ImagesError naming an image that is broken or, with `fit` exact, has another size.
    """
    return np.stack([_decode(images, int(row), size, channels, fit) for row in rows])


def label_rows(images: LabelledImages, label_of: LabelOf) -> NDArray[np.int64]:
    """Return the class number per row. Errors: ImagesError for a row without a label, and those of `label_of`."""
    labels = images.require_labels()
    numbers = {label: label_of(label) for label in dict.fromkeys(labels)}
    return np.array([numbers[label] for label in labels], np.int64)


def choose_rows(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return a random choice of `count` rows, with equal numbers per class where possible."""
    lot = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), np.int64)  # rows of the same class before this one
    for label in np.unique(labels):
        own = lot[labels[lot] == label]
        rank[own] = np.arange(len(own))
    order = np.lexsort((np.argsort(lot), rank))
    return np.sort(order[:count])


def refuse_shared(training: Pictures, test: Pictures, learnt: str, measured: str) -> None:
    """Check that no test image equals a training image, pixel by pixel. All have the same size. Errors: ImagesError."""
    known = {hashlib.sha256(image.tobytes()).digest() for image in training.images}
    if shared := sum(hashlib.sha256(image.tobytes()).digest() in known for image in test.images):
        raise ImagesError(
            f"{shared} of the {len(test)} test images of {measured} are among the training images of {learnt}; "
            "accuracy on them has no meaning: leave them out, or name other images by --test"
        )


def _decode(images: LabelledImages, row: int, size: tuple[int, int], channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Return the pixels of one image. Errors: ImagesError."""

    def bring_to_size(image: Image.Image) -> Image.Image:
        """Return the image with the requested channels and, with cropping, the requested size."""
        shown = show_rgb(image).convert(MODES[channels])
        return resize_image(shown, size, fit)

    pixels = decode_image(images.read(row), images.place(row), bring_to_size)
    if pixels.shape[:2] != size:
        raise ImagesError(
            f"{images.place(row)} is {pixels.shape[1]} x {pixels.shape[0]} pixels (width x height), the classifier "
            f"reads {size[1]} x {size[0]}; give images of that size, or say fit crop"
        )
    return pixels.reshape(*size, channels)
