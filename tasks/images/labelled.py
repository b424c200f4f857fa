"""Labelled images from where a user keeps them: a Parquet file, a folder of one folder a class, a published version."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageOps

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
from tailforge.tasks.images.parquet_columns import read_classes, require_complete
from tailforge.tasks.methods.classifiers.train import Pictures

SHOWN = 5  # images in an error
MODES = {1: "L", 3: "RGB"}
LabelOf = Callable[[str], int]


@dataclass(frozen=True)
class LabelledImages:
    """Images that are not decoded yet. `origin` says where they come from, `place(k)` where image k does.

    A label is None where the image has none; whoever needs them takes those of `require_labels`.
    """

    origin: str
    labels: tuple[str | None, ...]
    read: Callable[[int], bytes]
    place: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)

    def require_labels(self) -> tuple[str, ...]:
        """The labels, none of which is missing. Errors: ImagesError that names the images without one."""
        missing = [self.place(row) for row, label in enumerate(self.labels) if label is None]
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise ImagesError(f"no label: {', '.join(missing[:SHOWN])}{more}; give each image one or remove it")
        return tuple(label for label in self.labels if label is not None)


def open_images(source: str, store: str, split: str, learnt: str = "") -> LabelledImages:
    """`source` is a Parquet file, a folder, or dataset@version of the store, in this order.

    Of a file with a column `split`, a folder with train and test in it, and a version, only `split` is taken; a test
    takes a version that has no test split whole, but not the split that is learnt from (`learnt`: its origin).
    Errors: NotFoundError; ImagesError for a file that holds no labelled images.
    """
    if Path(source).exists():
        return open_files(Path(source), split)
    name, _, version = source.partition("@")
    if not NAME.match(name):
        raise NotFoundError(
            f"{source!r} is no file, no folder and no name of a dataset; give a Parquet file, a folder of one folder a "
            "class, or dataset@version"
        )
    return open_version(store, name, version or "latest", split, learnt)


def open_files(path: Path, split: str) -> LabelledImages:
    """Images of a Parquet file or of a folder of one folder a class; of `split` where it holds train and test.

    Errors: NotFoundError, ImagesError.
    """
    if path.is_dir():
        divided = all((path / name).is_dir() for name in ("train", "test"))
        return _open_folder(path / split if divided else path, path)
    if path.is_file():
        return _open_parquet(path, split)
    raise NotFoundError(f"{path} does not exist; give a Parquet file or a folder of one folder a class")


def open_version(store: str, name: str, version: str, split: str, learnt: str = "") -> LabelledImages:
    """Images of a published version; for a test where it has no such split all but `learnt`. Errors: NotFoundError."""
    dataset = load_dataset(Store.open(store), name, version)

    def origin_of(*splits: str) -> str:
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
    """Errors: VerificationError for a number that is no class of the version."""
    if not 0 <= sample["cls"] < len(dataset.classes):
        raise VerificationError(
            f"{dataset.name} {dataset.version}: sample {sample['key']} is of class {sample['cls']}, and dataset.json "
            f"names {len(dataset.classes)}; `tailforge verify` says what else is wrong"
        )
    return dataset.classes[int(sample["cls"])]


def _open_folder(folder: Path, root: Path) -> LabelledImages:
    files = list_class_files(folder, root)
    if not files:
        raise ImagesError(
            f"folder {folder} holds no image in a folder of its class; make one folder a class, named as the class, "
            f"with images in it ({', '.join(SUFFIXES)})"
        )
    labels = tidy_classes([file.relative_to(folder).parts[0] for file in files], f"folder {folder}")
    return LabelledImages(str(folder), labels, lambda row: read_image_file(files[row]), lambda row: str(files[row]))


def tidy_classes(labels: Sequence[str | None], origin: str) -> tuple[str | None, ...]:
    """The classes by their names as they are kept. Errors: ImagesError for two whose names look alike."""
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
    """Images of a folder of one folder a class, class by class by rising name.

    Errors: ImagesError for a class without an image, an image that lies in no class, and those of `list_image_files`.
    """
    shown = [inner for inner in sorted(folder.iterdir()) if not inner.name.startswith(".")]
    classes = [require_inside(inner, root) for inner in shown if inner.is_dir()]
    files = {inner: list_image_files(inner, root) for inner in classes}
    empty = [inner for inner in classes if not files[inner]]
    if 0 < len(empty) < len(classes):
        raise ImagesError(f"folder {empty[0]} holds no image; put images of its class there, or remove it")
    if classes and (loose := [file for file in shown if not file.is_dir() and file.suffix.lower() in SUFFIXES]):
        raise ImagesError(f"{loose[0]} lies in no folder of its class; move it into one, or remove it")
    return [file for inner in classes for file in files[inner]]


def _open_parquet(file: Path, split: str) -> LabelledImages:
    try:
        table = pq.ParquetFile(file).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ImagesError(
            f"{file} cannot be read as Parquet: {describe_failure(error)}; give a Parquet file with columns image and "
            "label, or a folder of one folder a class"
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
        return take_image_bytes(images[rows[row]].as_py())

    return LabelledImages(origin, labels, read, lambda row: f"{file}: row {rows[row]}")


def rows_of_split(file: Path, table: pa.Table, split: str) -> Sequence[int]:
    """Rows whose split is this one. Errors: ImagesError for a row without a split, and if none is of this one."""
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
    """Images and class numbers of the given rows, as `decode_pixels`. Errors: ImagesError; what `label_of` raises."""
    labels = label_rows(images, label_of)[rows]
    return Pictures(decode_pixels(images, size, channels, rows, fit), labels)


def decode_pixels(
    images: LabelledImages, size: tuple[int, int], channels: int, rows: NDArray[np.int64], fit: Fit = "exact"
) -> NDArray[np.uint8]:
    """Pixels [rows, height, width, channels] of the given rows; `size` is (height, width), `channels` 1 (grey) or 3.

    `fit` crop: scaled to fit (also up), the middle kept. Errors: ImagesError that names the image which is broken or,
    with `fit` exact, of another size.
    """
    return np.stack([_decode(images, int(row), size, channels, fit) for row in rows])


def label_rows(images: LabelledImages, label_of: LabelOf) -> NDArray[np.int64]:
    """Class number of every row. Errors: ImagesError for a row without a label; what `label_of` raises."""
    labels = images.require_labels()
    numbers = {label: label_of(label) for label in dict.fromkeys(labels)}
    return np.array([numbers[label] for label in labels], np.int64)


def choose_rows(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """`count` rows by lot, of every class as equally many as there are."""
    lot = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), np.int64)  # how many of its class come before a row
    for label in np.unique(labels):
        own = lot[labels[lot] == label]
        rank[own] = np.arange(len(own))
    order = np.lexsort((np.argsort(lot), rank))
    return np.sort(order[:count])


def refuse_shared(training: Pictures, test: Pictures, learnt: str, measured: str) -> None:
    """Errors: ImagesError if an image of the test is one of the training, pixel by pixel; both are of the same size."""
    known = {hashlib.sha256(image.tobytes()).digest() for image in training.images}
    if shared := sum(hashlib.sha256(image.tobytes()).digest() in known for image in test.images):
        raise ImagesError(
            f"{shared} of the {len(test)} test images of {measured} are among the training images of {learnt}; "
            "accuracy on them would say nothing: leave them out, or name other images by --test"
        )


def _decode(images: LabelledImages, row: int, size: tuple[int, int], channels: int, fit: Fit) -> NDArray[np.uint8]:
    def bring_to_size(image: Image.Image) -> Image.Image:
        shown = show_rgb(image).convert(MODES[channels])
        return ImageOps.fit(shown, (size[1], size[0]), Image.Resampling.LANCZOS) if fit == "crop" else shown

    pixels = decode_image(images.read(row), images.place(row), bring_to_size)
    if pixels.shape[:2] != size:
        raise ImagesError(
            f"{images.place(row)} is {pixels.shape[1]} x {pixels.shape[0]} pixels (width x height), the classifier "
            f"reads {size[1]} x {size[0]}; give images of that size, or say fit crop"
        )
    return pixels.reshape(*size, channels)
